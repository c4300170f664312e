package serve

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	authorization "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/ca"
)

// How long and how many answers about Secrets are remembered.
const (
	accessAge  = time.Minute
	accessMost = 10_000
)

// accessReviews is the part of the API server that knows who may do what.
type accessReviews interface {
	Create(context.Context, *authorization.SubjectAccessReview, metav1.CreateOptions) (*authorization.SubjectAccessReview, error)
}

// secretAccess says which Secrets a service account may read.
type secretAccess struct {
	reviews accessReviews
	known   *lru.Cache[accessKey, accessAnswer]
	asking  singleflight.Group
}

// accessKey is one question; without a name it is about all of a namespace.
type accessKey struct{ namespace, account, name string }

type accessAnswer struct {
	yes bool
	at  time.Time
}

func newSecretAccess(r accessReviews) *secretAccess {
	known, err := lru.New[accessKey, accessAnswer](accessMost)
	if err != nil {
		panic(err) // for a size below 1 only
	}
	return &secretAccess{reviews: r, known: known}
}

// may reports whether a workload may be sent a Secret: one of its own namespace
// that its service account may get.
func (a *secretAccess) may(ctx context.Context, id ca.Identity, namespace, name string) (bool, error) {
	if namespace != id.Namespace {
		return false, nil
	}
	for _, k := range []accessKey{{namespace, id.ServiceAccount, ""}, {namespace, id.ServiceAccount, name}} {
		if yes, err := a.ask(ctx, k); yes || err != nil {
			return yes, err
		}
	}
	return false, nil
}

func (a *secretAccess) ask(ctx context.Context, k accessKey) (bool, error) {
	if last, ok := a.known.Get(k); ok && time.Since(last.at) < accessAge {
		return last.yes, nil
	}
	v, err, _ := a.asking.Do(k.namespace+"/"+k.account+"/"+k.name, func() (any, error) {
		r, err := a.reviews.Create(ctx, &authorization.SubjectAccessReview{Spec: authorization.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + k.namespace + ":" + k.account,
			Groups: []string{
				"system:serviceaccounts", "system:serviceaccounts:" + k.namespace, "system:authenticated",
			},
			ResourceAttributes: &authorization.ResourceAttributes{
				Verb: "get", Resource: "secrets", Version: "v1", Namespace: k.namespace, Name: k.name,
			},
		}}, metav1.CreateOptions{})
		if err != nil {
			return false, fmt.Errorf("the API server does not say who may read Secrets: %w", err)
		}
		yes := r.Status.Allowed && !r.Status.Denied
		a.known.Add(k, accessAnswer{yes, time.Now()})
		return yes, nil
	})
	return err == nil && v.(bool), err
}
