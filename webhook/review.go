package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The bounds of a request. An object is at most 3 MiB (the API server's own
// limit of a request); an AdmissionReview may carry two.
const (
	maxBody   = 8 << 20
	readTime  = 10 * time.Second
	maxMemory = 64 << 20 // of all bodies at a time
)

// Request is an admission request and where it was sent to.
type Request struct {
	*admissionv1.AdmissionRequest
	Path string // the URL's
}

// Decide answers one request. It is called from many goroutines; ctx ends
// when the API server has stopped waiting. It must not keep the request.
type Decide func(ctx context.Context, r *Request) *admissionv1.AdmissionResponse

// review is an AdmissionReview of version v1 or v1beta1: their forms are the
// same.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *admissionv1.AdmissionRequest  `json:"request,omitempty"`
	Response        *admissionv1.AdmissionResponse `json:"response,omitempty"`
}

// Handler serves AdmissionReviews. What is no AdmissionReview is answered with
// an HTTP error, which the API server treats as the webhook's failurePolicy
// says and shows to the user; failed is told of each, and why.
func Handler(decide Decide, failed func(error)) http.Handler {
	memory := semaphore.NewWeighted(maxMemory)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size := r.ContentLength
		if size < 0 || size > maxBody {
			size = maxBody
		}
		if err := memory.Acquire(r.Context(), size); err != nil {
			return // the client has gone
		}
		defer memory.Release(size)
		in, code, err := read(w, r)
		if err != nil {
			failed(err)
			http.Error(w, err.Error(), code)
			return
		}
		out := review{TypeMeta: in.TypeMeta, Response: decide(r.Context(), &Request{in.Request, r.URL.Path})}
		out.Response.UID = in.Request.UID
		b, err := json.Marshal(out)
		if err != nil {
			failed(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b)
	})
}

// read returns the AdmissionReview of an HTTP request, or the status code and
// reason of its refusal.
func read(w http.ResponseWriter, r *http.Request) (*review, int, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, http.StatusMethodNotAllowed, fmt.Errorf("method %s: want POST with an AdmissionReview", r.Method)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: want application/json", r.Header.Get("Content-Type"))
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime)) // none where the connection knows no deadlines
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the AdmissionReview is larger than %d MiB", maxBody>>20)
	case err != nil:
		return nil, http.StatusBadRequest, fmt.Errorf("reading the AdmissionReview: %w", err)
	case len(body) == 0:
		return nil, http.StatusBadRequest, errors.New("the request is empty: want an AdmissionReview")
	}
	in := &review{}
	if err := json.Unmarshal(body, in); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("the request is no AdmissionReview: %w", err)
	}
	if v := in.APIVersion; in.Kind != "AdmissionReview" || v != "admission.k8s.io/v1" && v != "admission.k8s.io/v1beta1" {
		return nil, http.StatusBadRequest, fmt.Errorf("the request is a %q of %q: want an AdmissionReview of admission.k8s.io/v1 or v1beta1", in.Kind, v)
	}
	if in.Request == nil {
		return nil, http.StatusBadRequest, errors.New("the AdmissionReview has no request")
	}
	return in, 0, nil
}

// Allowed lets an object pass, with warnings for the user.
func Allowed(warnings ...string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true, Warnings: warnings}
}

// Refused does not let an object pass; the user is shown the message.
func Refused(message string, warnings ...string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{
		Warnings: warnings,
		Result:   &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: message},
	}
}
