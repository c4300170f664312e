package ca

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Audience is that of the tokens by which proxies prove who they are.
const Audience = "istio-ca"

// Bounds of a review.
const (
	maxTokenBytes = 16 << 10
	reviewTimeout = 10 * time.Second
	// maxReviews is how many reviews run at once: strangers must not be able to
	// flood the API server by way of this one.
	maxReviews = 32
	// clockLeeway is how far the API server's clock, which decides, may be
	// behind this one.
	clockLeeway = time.Minute
)

// TokenReviews is the part of the API server that reviews tokens.
type TokenReviews interface {
	Create(context.Context, *authentication.TokenReview, metav1.CreateOptions) (*authentication.TokenReview, error)
}

// Reviewer are the Tokens of a Kubernetes API server. Its answers are not
// remembered: the token of a deleted pod is worthless at once.
type Reviewer struct {
	reviews TokenReviews
	running chan struct{}
	now     func() time.Time
}

// NewReviewer returns the Tokens of an API server.
func NewReviewer(r TokenReviews) *Reviewer {
	return &Reviewer{reviews: r, running: make(chan struct{}, maxReviews), now: time.Now}
}

// Review implements Tokens. It waits its turn, and for the API server, until
// ctx ends or 10 s have passed.
func (r *Reviewer) Review(ctx context.Context, token string) (Caller, error) {
	if err := r.glance(token); err != nil {
		return Caller{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case r.running <- struct{}{}:
		defer func() { <-r.running }()
	case <-ctx.Done():
		return Caller{}, fmt.Errorf("too many tokens are being reviewed: %w", ctx.Err())
	}
	answer, err := r.reviews.Create(ctx, &authentication.TokenReview{
		Spec: authentication.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return Caller{}, fmt.Errorf("the token cannot be reviewed: %w", err)
	}
	return callerOf(&answer.Status)
}

// claims are those of a token that can be judged without its signature.
type claims struct {
	Expires  float64         `json:"exp"`
	Audience json.RawMessage `json:"aud"` // a string or a list of them
}

// glance refuses what the API server would surely refuse, at no cost and with a
// clear reason.
func (r *Reviewer) glance(token string) error {
	if len(token) > maxTokenBytes {
		return refuse(Unauthenticated, "the token has %d bytes, more than %d", len(token), maxTokenBytes)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return refuse(Unauthenticated, "the token is no JSON web token")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c claims
	if err != nil || json.Unmarshal(body, &c) != nil {
		return refuse(Unauthenticated, "the token is no JSON web token")
	}
	var audiences []string
	if json.Unmarshal(c.Audience, &audiences) != nil {
		var one string
		_ = json.Unmarshal(c.Audience, &one) // neither: no audience at all
		audiences = []string{one}
	}
	if !slices.Contains(audiences, Audience) {
		return refuse(Unauthenticated, "the token is for audiences %q, want %s", audiences, Audience)
	}
	end := time.Unix(int64(c.Expires), 0)
	if r.now().After(end.Add(clockLeeway)) {
		return refuse(Unauthenticated, "the token has expired at %s", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// The keys of a TokenReview's extra that name the pod that a token is bound to.
const (
	podNameKey = "authentication.kubernetes.io/pod-name"
	podUIDKey  = "authentication.kubernetes.io/pod-uid"
)

func callerOf(s *authentication.TokenReviewStatus) (Caller, error) {
	switch {
	case s.Error != "":
		return Caller{}, refuse(Unauthenticated, "the API server refuses the token: %s", s.Error)
	case !s.Authenticated:
		return Caller{}, refuse(Unauthenticated, "the API server does not know the token")
	case !slices.Contains(s.Audiences, Audience):
		// An API server that knows nothing of audiences leaves them out.
		return Caller{}, refuse(Unauthenticated, "the API server has not confirmed that the token is for audience %s", Audience)
	}
	// system:serviceaccount:<namespace>:<name>
	parts := strings.Split(s.User.Username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" ||
		!slices.Contains(s.User.Groups, "system:serviceaccounts") {
		return Caller{}, refuse(Unauthenticated, "the token is of %q, which is no service account", s.User.Username)
	}
	return Caller{
		Identity: Identity{Namespace: parts[2], ServiceAccount: parts[3]},
		Pod:      first(s.User.Extra[podNameKey]), PodUID: first(s.User.Extra[podUIDKey]),
	}, nil
}

func first(v authentication.ExtraValue) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}
