package install

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"helm.sh/helm/v4/pkg/chart/common/util"
)

// Check tells which values the charts do not have. Helm would tell it only of a
// chart whose turn has come: of the gateway's once the control plane runs.
func (o Options) Check() error {
	for _, r := range o.releases() {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (r oneRelease) check() error {
	c, err := load(r.chart, "")
	if err != nil {
		return err
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Schema))
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("values.schema.json", schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile("values.schema.json")
	if err != nil {
		return err
	}
	values, err := util.CoalesceValues(c, r.values)
	if err != nil {
		return err
	}
	err = compiled.Validate(values.AsMap())
	var bad *jsonschema.ValidationError
	if errors.As(err, &bad) {
		return fmt.Errorf("values of manifests/%s: %s", r.chart, strings.Join(slices.Sorted(slices.Values(inWords(bad))), "; "))
	}
	return err
}

// inWords is what a schema finds, value by value.
func inWords(e *jsonschema.ValidationError) []string {
	var out []string
	for _, cause := range e.Causes {
		out = append(out, inWords(cause)...)
	}
	if len(out) > 0 {
		return out
	}
	if more, is := e.ErrorKind.(*kind.AdditionalProperties); is {
		for _, name := range more.Properties {
			out = append(out, strings.Join(append(e.InstanceLocation[:len(e.InstanceLocation):len(e.InstanceLocation)], name), ".")+" is not one of them")
		}
		return out
	}
	said := e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	return []string{strings.Join(e.InstanceLocation, ".") + ": " + said}
}
