package kube

import (
	"encoding/json"
	"fmt"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// Read reads the JSON of one object of Istio's configuration, as the API
// server shows it to webhooks at an API version. Problems of severity Error
// come without an object. The error is about JSON that is no object at all.
func Read(k discovery.Kind, version string, text []byte) (*discovery.Object, []config.Problem, error) {
	raw := &custom{}
	if err := json.Unmarshal(text, raw); err != nil {
		return nil, nil, fmt.Errorf("no %s: %w", k.Kind, err)
	}
	reader := &istioKind{Kind: k, version: version}
	o, problems := reader.readObject(newMeta(config.Key{Group: k.Group, Kind: k.Kind, Namespace: raw.Namespace, Name: raw.Name}, raw), raw)
	return o, problems, nil
}
