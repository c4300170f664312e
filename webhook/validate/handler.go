package validate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"istio.io/api/label"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
	"github.com/pilotfish-mesh/pilotfish/webhook"
)

// Object is one object as the source reads it.
type Object struct {
	Meta config.Meta
	Spec proto.Message
}

// Source is what the webhook needs of where configuration comes from.
type Source interface {
	// Read reads an object as the API server sends it; known is false for
	// kinds that are not configuration of the mesh. The object is nil where a
	// Problem of severity Error says why it cannot be read.
	Read(kind metav1.GroupVersionKind, text []byte) (o *Object, problems []config.Problem, known bool)
	// With is the newest Mesh as it would be with the object; nil before the
	// first Mesh.
	With(o *Object) *config.Mesh
	// Owns reports whether objects labelled with a revision or a tag
	// (istio.io/rev) are for this control plane; empty means neither.
	Owns(named string) bool
}

// metrics have the names that they have at istiod.
type metrics struct {
	passed, failed *prometheus.CounterVec
	http           prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		passed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_validation_passed", Help: "Objects that the validation webhook let pass.",
		}, []string{"group", "version", "resource"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_validation_failed", Help: "Objects that the validation webhook refused.",
		}, []string{"group", "version", "resource", "reason"}),
		http: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "galley_validation_http_error", Help: "Requests of the validation webhook that were no AdmissionReviews.",
		}),
	}
	r.MustRegister(m.passed, m.failed, m.http)
	return m
}

type handler struct {
	source  Source
	metrics *metrics
	log     *zap.Logger
}

// Handler serves /validate. Objects that are for another control plane are let
// pass.
func Handler(s Source, r prometheus.Registerer, log *zap.Logger) http.Handler {
	h := &handler{s, newMetrics(r), log}
	return webhook.Handler(h.decide, func(err error) {
		h.metrics.http.Inc()
		log.Warn("validation failed", zap.Error(err))
	})
}

func (h *handler) decide(_ context.Context, r *webhook.Request) *admissionv1.AdmissionResponse {
	if r.SubResource != "" || r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return webhook.Allowed() // status, and ends
	}
	switch meta, err := metaOf(r.Object.Raw); {
	case err != nil:
		return h.refused(r, "yaml_decode_error", "the object is no JSON object: "+err.Error())
	case !h.source.Owns(meta.Metadata.Labels[label.IoIstioRev.Name]):
		return webhook.Allowed()
	case meta.Metadata.DeletionTimestamp != nil, r.Operation == admissionv1.Update && h.sameSpec(r):
		return webhook.Allowed() // what is in the cluster must be able to change its labels, and to go
	}
	o, problems, known := h.source.Read(r.Kind, r.Object.Raw)
	if !known {
		return webhook.Allowed()
	}
	if o != nil {
		if o.Meta.Namespace == "" {
			o.Meta.Namespace = r.Namespace
		}
		problems = append(problems, translate.Check(&o.Meta, o.Spec)...)
	}
	errs, warnings := sorted(problems)
	if len(errs) > 0 {
		return h.refused(r, "invalid_resource", message(r, errs), warnings...)
	}
	h.metrics.passed.WithLabelValues(r.Resource.Group, r.Resource.Version, r.Resource.Resource).Inc()
	return webhook.Allowed(bounded(append(warnings, h.withoutEffect(o)...))...)
}

// head is what of any object is read first.
type head struct {
	Metadata struct {
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *metav1.Time      `json:"deletionTimestamp"`
	} `json:"metadata"`
}

func metaOf(text []byte) (h head, err error) {
	err = json.Unmarshal(text, &h)
	return h, err
}

// sameSpec reports that an update changes metadata only.
func (h *handler) sameSpec(r *webhook.Request) bool {
	var before, after struct {
		Spec any `json:"spec"`
	}
	return json.Unmarshal(r.OldObject.Raw, &before) == nil && json.Unmarshal(r.Object.Raw, &after) == nil &&
		reflect.DeepEqual(before.Spec, after.Spec)
}

func (h *handler) refused(r *webhook.Request, reason, text string, warnings ...string) *admissionv1.AdmissionResponse {
	h.metrics.failed.WithLabelValues(r.Resource.Group, r.Resource.Version, r.Resource.Resource, reason).Inc()
	h.log.Info("refused", zap.String("kind", r.Kind.Kind), zap.String("namespace", r.Namespace), zap.String("name", r.Name), zap.String("reason", reason))
	return webhook.Refused(text, bounded(warnings)...)
}

// withoutEffect are the problems that the object has with others, or others
// with it. They never keep it out: objects may be applied in any order.
func (h *handler) withoutEffect(o *Object) []string {
	m := h.source.With(o)
	if m == nil {
		return nil
	}
	var out []string
	for _, p := range translate.NewIndex(m).Problems() {
		if p.Object == o.Meta.Key {
			out = append(out, line(p))
		}
	}
	return out
}

// sorted parts errors from the rest; remarks are not for the user at this point.
func sorted(problems []config.Problem) (errs, warnings []string) {
	for _, p := range problems {
		switch p.Severity {
		case config.Error:
			errs = append(errs, line(p))
		case config.Warning:
			warnings = append(warnings, line(p))
		}
	}
	return errs, warnings
}

// line names field, value and rule.
func line(p config.Problem) string {
	if p.Field == "" {
		return fmt.Sprintf("%s (%s)", p.Message, p.Code)
	}
	return fmt.Sprintf("%s %s (%s)", p.Field, p.Message, p.Code)
}

// message is what the user reads after "denied the request:".
func message(r *webhook.Request, errs []string) string {
	const most = 20
	more := ""
	if len(errs) > most {
		more = fmt.Sprintf("\n* and %d more", len(errs)-most)
		errs = errs[:most]
	}
	return fmt.Sprintf("%s %s/%s is not valid:\n* %s%s", r.Kind.Kind, r.Namespace, r.Name, strings.Join(errs, "\n* "), more)
}

// bounded keeps warnings within what the API server passes on: 4 KiB in all,
// and from 256 characters it advises against.
func bounded(warnings []string) []string {
	const most, longest = 10, 256
	if len(warnings) > most {
		warnings = append(warnings[:most-1:most-1], fmt.Sprintf("and %d more warnings", len(warnings)-most+1))
	}
	for i, w := range warnings {
		if len(w) > longest {
			warnings[i] = strings.ToValidUTF8(w[:longest-3], "") + "..."
		}
	}
	return warnings
}
