package kube

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// custom is an object of one of Istio's kinds with its content unread. Were
// the content typed, one object that does not fit its type would make the
// whole list unreadable.
type custom struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              json.RawMessage `json:"spec"`
	Status            json.RawMessage `json:"status"`
}

type customList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []custom `json:"items"`
}

var crdVersion = schema.GroupVersion{Group: "apiextensions.k8s.io", Version: "v1"}

// crd is the part of a CustomResourceDefinition that says what is served. The
// schemas, most of it, are not decoded.
type crd struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Group string `json:"group"`
		Names struct {
			Kind   string `json:"kind"`
			Plural string `json:"plural"`
		} `json:"names"`
		Versions []struct {
			Name   string `json:"name"`
			Served bool   `json:"served"`
		} `json:"versions"`
	} `json:"spec"`
	Status struct {
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

type crdList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []crd `json:"items"`
}

// DeepCopyObject implements runtime.Object. Nobody here shares an object, so
// that a shallow copy will do.
func (o *custom) DeepCopyObject() runtime.Object { c := *o; return &c }

// DeepCopyObject implements runtime.Object, as for custom.
func (o *customList) DeepCopyObject() runtime.Object { c := *o; return &c }

// DeepCopyObject implements runtime.Object, as for custom.
func (o *crd) DeepCopyObject() runtime.Object { c := *o; return &c }

// DeepCopyObject implements runtime.Object, as for custom.
func (o *crdList) DeepCopyObject() runtime.Object { c := *o; return &c }
