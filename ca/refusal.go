package ca

import "fmt"

// Reason is why something was refused, as metrics count it.
type Reason string

// The reasons.
const (
	BadRequest      Reason = "csr_parse" // no request that can be read
	WeakKey         Reason = "weak_key"  // a key that is too short, or of an unusual kind
	BadSignature    Reason = "bad_signature"
	OtherIdentity   Reason = "other_identity" // names that the caller has not proven
	Unauthenticated Reason = "unauthenticated"
	Unsupported     Reason = "unsupported"
)

// Refusal is the caller's fault. Its text is for whoever made the request.
type Refusal struct {
	Reason Reason
	text   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.text }

// Refuse makes a Refusal of an error that something else found.
func Refuse(why Reason, err error) *Refusal { return &Refusal{Reason: why, text: err.Error()} }

func refuse(why Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: why, text: fmt.Sprintf(format, args...)}
}
