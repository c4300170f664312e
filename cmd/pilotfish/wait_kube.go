package main

import (
	"context"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// generationAt is the generation of an object at an API server.
func generationAt(ctx context.Context, kubeconfig, kubeContext string, kind waitKind, key config.Key) (int64, error) {
	c, err := clusterAt(kubeconfig, kubeContext)
	if err != nil {
		return 0, err
	}
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return 0, err
	}
	o, err := client.Resource(schema.GroupVersionResource{Group: kind.group, Version: kind.version, Resource: kind.plural}).
		Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	return o.GetGeneration(), nil
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
