package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/pilotfish-mesh/pilotfish/manifests"
)

// installCRDs creates Istio's kinds and waits until VirtualServices, the last
// kind that the changes need, are served.
func installCRDs(ctx context.Context, client dynamic.Interface) error {
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests.IstioCRDs), 4096)
	for {
		crd := &unstructured.Unstructured{}
		err := decoder.Decode(&crd.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(crd.Object) == 0 {
			continue
		}
		if _, err := client.Resource(crds).Create(ctx, crd, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for {
		_, err := client.Resource(virtualServices).List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			return nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return errors.Join(ctx.Err(), err)
		}
	}
}
