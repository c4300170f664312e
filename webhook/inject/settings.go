package inject

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

//go:embed templates
var embedded embed.FS

// The ConfigMap with an injector's settings, and its keys.
const (
	ConfigMapName = "istio-sidecar-injector"
	configKey     = "config"
	valuesKey     = "values"
)

// Settings are what the ConfigMap istio-sidecar-injector says over the
// defaults. Immutable.
type Settings struct {
	templates        map[string]*template.Template
	defaultTemplates []string
	aliases          map[string][]string
	byDefault        bool // policy: enabled
	never, always    []labels.Selector
	annotations      map[string]string
	values           map[string]any
}

// written is the form of the ConfigMap's key config.
type written struct {
	Policy               string                 `json:"policy"`
	DefaultTemplates     []string               `json:"defaultTemplates"`
	Templates            map[string]string      `json:"templates"`
	Aliases              map[string][]string    `json:"aliases"`
	NeverInjectSelector  []metav1.LabelSelector `json:"neverInjectSelector"`
	AlwaysInjectSelector []metav1.LabelSelector `json:"alwaysInjectSelector"`
	InjectedAnnotations  map[string]string      `json:"injectedAnnotations"`
}

// ParseSettings reads the data of the ConfigMap istio-sidecar-injector; nil
// for none. Key config has policy, templates and selectors, as Istio's chart
// writes them; templates that it does not have are the embedded ones. Key
// values (YAML or JSON) is laid over the embedded values, in which tag is the
// images' tag unless it is empty. An error names the
// key and what is wrong; nothing of the data is then to be used.
func ParseSettings(data map[string]string, tag string) (*Settings, error) {
	var w written
	if err := yaml.Unmarshal([]byte(data[configKey]), &w); err != nil {
		return nil, fmt.Errorf("key %s: %w", configKey, err)
	}
	s := &Settings{defaultTemplates: w.DefaultTemplates, aliases: w.Aliases, annotations: w.InjectedAnnotations}
	if len(s.defaultTemplates) == 0 {
		s.defaultTemplates = []string{"sidecar"}
	}
	var err error
	if s.values, err = parseValues(data[valuesKey], tag); err != nil {
		return nil, fmt.Errorf("key %s: %w", valuesKey, err)
	}
	if err := s.setPolicy(&w); err != nil {
		return nil, fmt.Errorf("key %s: %w", configKey, err)
	}
	if s.templates, err = parseTemplates(w.Templates); err != nil {
		return nil, fmt.Errorf("key %s: %w", configKey, err)
	}
	return s, nil
}

func (s *Settings) setPolicy(w *written) (err error) {
	policy := w.Policy
	if policy == "" {
		policy = s.text("global", "proxy", "autoInject")
	}
	switch policy {
	case "enabled":
		s.byDefault = true
	case "disabled":
	default:
		return fmt.Errorf("policy is %q; want enabled or disabled", policy)
	}
	if s.never, err = selectors(w.NeverInjectSelector); err != nil {
		return fmt.Errorf("neverInjectSelector%w", err)
	}
	if s.always, err = selectors(w.AlwaysInjectSelector); err != nil {
		return fmt.Errorf("alwaysInjectSelector%w", err)
	}
	return nil
}

// selectors leaves out empty ones: those would match every pod, and Istio
// reads them as matching none.
func selectors(list []metav1.LabelSelector) ([]labels.Selector, error) {
	var out []labels.Selector
	for i := range list {
		s, err := metav1.LabelSelectorAsSelector(&list[i])
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		if !s.Empty() {
			out = append(out, s)
		}
	}
	return out, nil
}

func parseTemplates(own map[string]string) (map[string]*template.Template, error) {
	out := map[string]*template.Template{}
	shared, err := embedded.ReadFile("templates/shared.yaml")
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, name := range []string{"sidecar", "gateway"} {
		b, err := embedded.ReadFile("templates/" + name + ".yaml")
		if err != nil {
			return nil, err
		}
		texts[name] = string(b)
	}
	maps.Copy(texts, own)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		t := template.New(name).Funcs(functions())
		if _, isOwn := own[name]; !isOwn {
			if _, err := t.New("shared").Parse(string(shared)); err != nil {
				return nil, err
			}
		}
		if _, err := t.Parse(texts[name]); err != nil {
			return nil, fmt.Errorf("templates.%s: %w", name, err)
		}
		out[name] = t
	}
	return out, nil
}

func parseValues(text, tag string) (map[string]any, error) {
	b, err := embedded.ReadFile("templates/values.yaml")
	if err != nil {
		return nil, err
	}
	var values, over map[string]any
	if err := yaml.Unmarshal(b, &values); err != nil {
		return nil, err
	}
	if tag != "" {
		overlayValues(values, Object{"global": Object{"tag": tag}})
	}
	if err := yaml.Unmarshal([]byte(text), &over); err != nil {
		return nil, errors.New("want a mapping: " + err.Error())
	}
	overlayValues(values, over)
	return values, nil
}

// overlayValues lays over upon base, mapping by mapping.
func overlayValues(base, over map[string]any) {
	for k, v := range over {
		inner, isMap := v.(map[string]any)
		below, hasMap := base[k].(map[string]any)
		if isMap && hasMap {
			overlayValues(below, inner)
			continue
		}
		base[k] = v
	}
}

// value is what the values have at a path, or nil.
func (s *Settings) value(path ...string) any {
	var v any = s.values
	for _, k := range path {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// text is a value in its text form; empty where there is none. Tags may be
// written as numbers.
func (s *Settings) text(path ...string) string {
	if v := s.value(path...); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

func (s *Settings) truth(path ...string) bool { return s.text(path...) == "true" }

// image is hub/name:tag. The type (debug, distroless) is the tag's suffix, as
// Istio's images are named, and takes the place of one that the tag has.
func (s *Settings) image(valuesPath, imageType string) string {
	if imageType == "" {
		imageType = s.text("global", "variant")
	}
	tag := s.text("global", "tag")
	if imageType != "" {
		tag = strings.TrimSuffix(strings.TrimSuffix(tag, "-distroless"), "-debug")
		if imageType != "default" {
			tag += "-" + imageType
		}
	}
	name := s.text("global", valuesPath, "image")
	if strings.Contains(name, "/") {
		return name // a whole image
	}
	return s.text("global", "hub") + "/" + name + ":" + tag
}

// templateNames are the templates by name, for messages.
func (s *Settings) templateNames() string {
	return strings.Join(slices.Sorted(maps.Keys(s.templates)), ", ")
}
