package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// checkAnnotations names every annotation of a pod whose value cannot be
// meant, with the value and what is wanted instead.
func checkAnnotations(all map[string]string) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if want := config.AnnotationWant(name, all[name]); want != "" {
			faults = append(faults, fmt.Errorf("annotation %s is %q; want %s", name, shortened(all[name]), want))
		}
	}
	return errors.Join(faults...)
}

func shortened(s string) string {
	const enough = 200
	if len(s) > enough {
		return s[:enough] + "..."
	}
	return s
}
