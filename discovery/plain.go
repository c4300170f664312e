package discovery

import (
	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// plainChange is a step of an object that goes into the Mesh as it is; a nil
// object is its end.
type plainChange struct {
	key    config.Key
	object *Object
}

func (c *plainChange) put(b *config.Builder) {
	switch c.key.Group {
	case "":
		c.putCore(b)
	case NetworkingGroup:
		c.putNetworking(b)
	case SecurityGroup:
		switch c.key.Kind {
		case "PeerAuthentication":
			putSpec[*security.PeerAuthentication](b, c, func(m *config.Mesh) *config.Index[*config.PeerAuthentication] { return &m.PeerAuthentications })
		case "RequestAuthentication":
			putSpec[*security.RequestAuthentication](b, c, func(m *config.Mesh) *config.Index[*config.RequestAuthentication] { return &m.RequestAuthentications })
		case "AuthorizationPolicy":
			putSpec[*security.AuthorizationPolicy](b, c, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies })
		}
	case GatewayAPIGroup:
		c.putGrant(b)
	case TelemetryGroup:
		putSpec[*telemetry.Telemetry](b, c, func(m *config.Mesh) *config.Index[*config.Telemetry] { return &m.Telemetries })
	case ExtensionsGroup:
		switch c.key.Kind {
		case "TrafficExtension":
			putSpec[*extensions.TrafficExtension](b, c, func(m *config.Mesh) *config.Index[*config.TrafficExtension] { return &m.TrafficExtensions })
		case "WasmPlugin":
			putSpec[*extensions.WasmPlugin](b, c, func(m *config.Mesh) *config.Index[*config.WasmPlugin] { return &m.WasmPlugins })
		}
	}
}

func (c *plainChange) putNetworking(b *config.Builder) {
	switch c.key.Kind {
	case "VirtualService":
		putSpec[*networking.VirtualService](b, c, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices })
	case "DestinationRule":
		putSpec[*networking.DestinationRule](b, c, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules })
	case "Gateway":
		putSpec[*networking.Gateway](b, c, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways })
	case "ServiceEntry":
		putSpec[*networking.ServiceEntry](b, c, func(m *config.Mesh) *config.Index[*config.ServiceEntry] { return &m.ServiceEntries })
	case "Sidecar":
		putSpec[*networking.Sidecar](b, c, func(m *config.Mesh) *config.Index[*config.SidecarScope] { return &m.Sidecars })
	case "WorkloadEntry":
		putSpec[*networking.WorkloadEntry](b, c, func(m *config.Mesh) *config.Index[*config.WorkloadEntry] { return &m.WorkloadEntries })
	case "WorkloadGroup":
		putSpec[*networking.WorkloadGroup](b, c, func(m *config.Mesh) *config.Index[*config.WorkloadGroup] { return &m.WorkloadGroups })
	case "EnvoyFilter":
		putSpec[*networking.EnvoyFilter](b, c, func(m *config.Mesh) *config.Index[*config.EnvoyFilter] { return &m.EnvoyFilters })
	case "ProxyConfig":
		putSpec[*networkingv1beta1.ProxyConfig](b, c, func(m *config.Mesh) *config.Index[*config.ProxyConfig] { return &m.ProxyConfigs })
	}
}

func (c *plainChange) putCore(b *config.Builder) {
	switch c.key.Kind {
	case "Namespace":
		field := func(m *config.Mesh) *config.Index[*config.Namespace] { return &m.Namespaces }
		if c.object == nil {
			config.Remove(b, field, "", c.key.Name)
		} else {
			config.Put(b, field, &config.Namespace{Meta: c.object.Meta})
		}
	case "Secret":
		field := func(m *config.Mesh) *config.Index[*config.Secret] { return &m.Secrets }
		if s := secretOf(c.object); s == nil {
			config.Remove(b, field, c.key.Namespace, c.key.Name)
		} else {
			config.Put(b, field, s)
		}
	case "ConfigMap":
		field := func(m *config.Mesh) *config.Index[*config.ConfigMap] { return &m.ConfigMaps }
		var cm *corev1.ConfigMap
		if c.object != nil {
			cm, _ = c.object.Body.(*corev1.ConfigMap)
		}
		if cm == nil {
			config.Remove(b, field, c.key.Namespace, c.key.Name)
		} else {
			config.Put(b, field, &config.ConfigMap{Meta: c.object.Meta, Data: cm.Data})
		}
	}
}

func putSpec[S proto.Message](b *config.Builder, c *plainChange, field func(*config.Mesh) *config.Index[*config.Object[S]]) {
	if c.object != nil {
		if spec, ok := c.object.Body.(S); ok {
			config.Put(b, field, &config.Object[S]{Meta: c.object.Meta, Spec: spec})
			return
		}
	}
	config.Remove(b, field, c.key.Namespace, c.key.Name)
}

// secretOf merges stringData into data, as the API server does on writing.
func secretOf(o *Object) *config.Secret {
	if o == nil {
		return nil
	}
	s, ok := o.Body.(*corev1.Secret)
	if !ok {
		return nil
	}
	data := s.Data
	if len(s.StringData) > 0 {
		data = make(map[string][]byte, len(s.Data)+len(s.StringData))
		for k, v := range s.Data {
			data[k] = v
		}
		for k, v := range s.StringData {
			data[k] = []byte(v)
		}
	}
	return &config.Secret{Meta: o.Meta, Type: string(s.Type), Data: data}
}
