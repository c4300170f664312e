package translate

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	extensions "istio.io/api/extensions/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Variables by which agents learn, in the module's environment, what they need
// to fetch it; they take them out. The names are Istio's.
const (
	moduleSecretVariable  = "ISTIO_META_WASM_IMAGE_PULL_SECRET"
	modulePolicyVariable  = "ISTIO_META_WASM_IMAGE_PULL_POLICY"
	moduleVersionVariable = "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION"
)

// noChecksum stands where Envoy's API wants a checksum and there is none, as
// agents know it from Istio.
const noChecksum = "nil"

// moduleTimeout bounds one attempt to fetch a module.
const moduleTimeout = 30 * time.Second

// moduleURL is where a module is; without a scheme, an image.
func moduleURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "oci://" + text
	}
	return url.Parse(text)
}

// remote reports whether the extension is a module that must be fetched.
func (x *extension) remote() bool {
	if x.meta.StandsIn != config.StandsInForNothing {
		return false
	}
	u, err := moduleURL(x.spec.GetWasm().GetUrl())
	return x.spec.GetWasm() != nil && (err != nil || u.Scheme != "file")
}

func (x *extension) code() *core.AsyncDataSource {
	w := x.spec.GetWasm()
	u, err := moduleURL(w.GetUrl())
	if err != nil {
		u = &url.URL{} // the check tells
	}
	if u.Scheme == "file" {
		return &core.AsyncDataSource{Specifier: &core.AsyncDataSource_Local{Local: fileSource(u.Path)}}
	}
	return &core.AsyncDataSource{Specifier: &core.AsyncDataSource_Remote{Remote: &core.RemoteDataSource{
		Sha256: cmp.Or(moduleChecksum(w, u), noChecksum),
		HttpUri: &core.HttpUri{
			Uri: u.String(), Timeout: durationpb.New(moduleTimeout),
			HttpUpstreamType: &core.HttpUri_Cluster{Cluster: modulesCluster},
		},
	}}}
}

// moduleChecksum is the one that the object gives, or its URL.
func moduleChecksum(w *extensions.WasmConfig, u *url.URL) string {
	if w.GetSha256() != "" {
		return w.GetSha256()
	}
	_, sum, _ := strings.Cut(u.Path, "@sha256:")
	return sum
}

func (x *extension) environment() *wasm.EnvironmentVariables {
	out := &wasm.EnvironmentVariables{KeyValues: map[string]string{}}
	w := x.spec.GetWasm()
	for _, v := range w.GetVmConfig().GetEnv() {
		switch {
		case v.GetValueFrom() == extensions.EnvValueSource_HOST:
			out.HostEnvKeys = append(out.HostEnvKeys, v.GetName())
		default:
			out.KeyValues[v.GetName()] = v.GetValue()
		}
	}
	out.HostEnvKeys = sortedSet(out.HostEnvKeys)
	if x.remote() {
		if s := w.GetImagePullSecret(); s != "" {
			out.KeyValues[moduleSecretVariable] = secretScheme + x.meta.Namespace + "/" + s
		}
		if x.pulledAlways() {
			// Whatever changes about the object makes the agent look again.
			out.KeyValues[modulePolicyVariable] = extensions.PullPolicy_Always.String()
			out.KeyValues[moduleVersionVariable] = x.meta.Hash.String()
		}
	}
	if len(out.KeyValues) == 0 && len(out.HostEnvKeys) == 0 {
		return nil
	}
	return out
}

// pulledAlways reports whether a module that is there already is fetched again
// when the object changes. What has a checksum cannot differ.
func (x *extension) pulledAlways() bool {
	w := x.spec.GetWasm()
	u, err := moduleURL(w.GetUrl())
	if err != nil || moduleChecksum(w, u) != "" {
		return false
	}
	switch w.GetImagePullPolicy() {
	case extensions.PullPolicy_UNSPECIFIED_POLICY:
		// An image without a tag is that of tag latest.
		_, tag, tagged := strings.Cut(u.Path[strings.LastIndex(u.Path, "/")+1:], ":")
		return u.Scheme == "oci" && (!tagged || tag == "latest")
	case extensions.PullPolicy_Always:
		return true
	}
	return false
}

// configurationText is a plugin's configuration as plugins read it: JSON text.
func configurationText(c *structpb.Struct) *wrapperspb.StringValue {
	b, err := json.Marshal(c.AsMap()) // sorts keys
	if err != nil {
		return wrapperspb.String("\xff") // a number that is none: the resource does not encode
	}
	return wrapperspb.String(string(b))
}

// pullSecretType is that of Secrets that hold a registry's credentials.
const pullSecretType = "kubernetes.io/dockerconfigjson"

const pullSecretKey = ".dockerconfigjson"

// pullSecretOf are the credentials in a Secret, nil if it is of another kind.
func pullSecretOf(s *config.Secret) []byte {
	if s.Type != pullSecretType {
		return nil
	}
	return s.Data[pullSecretKey]
}
