package install

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"

	"github.com/pilotfish-mesh/pilotfish/manifests"
)

// The charts and the names of their releases.
const (
	controlPlaneChart = "chart"
	gatewayChart      = "gateway"
	controlPlane      = "pilotfish"
	gateway           = "istio-ingressgateway"
)

// suffix is that of the names of what exists once a revision.
func suffix(revision string) string {
	if revision == "" || revision == "default" {
		return ""
	}
	return "-" + revision
}

// releaseName is that of a revision's control plane.
func releaseName(revision string) string { return controlPlane + suffix(revision) }

// load reads an embedded chart; version is that of its images.
func load(name, version string) (*chart.Chart, error) {
	var files []*archive.BufferedFile
	err := fs.WalkDir(manifests.Charts, name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := manifests.Charts.ReadFile(path)
		files = append(files, &archive.BufferedFile{Name: strings.TrimPrefix(path, name+"/"), Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	if version != "" {
		c.Metadata.AppVersion = version
	}
	return c, nil
}

const namespaceManifest = `apiVersion: v1
kind: Namespace
metadata:
  name: ` + Namespace + "\n"

// Render is everything that Install would apply, for kubectl apply.
func Render(o Options) (string, error) {
	var b strings.Builder
	b.WriteString(namespaceManifest)
	for _, r := range o.releases() {
		c, err := load(r.chart, o.Version)
		if err != nil {
			return "", err
		}
		in := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler)))
		in.DryRunStrategy = action.DryRunClient
		in.WaitStrategy = kube.HookOnlyStrategy
		in.KubeVersion = &common.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"} // no template asks
		in.ReleaseName, in.Namespace, in.Replace = r.name, Namespace, true
		out, err := in.Run(c, r.values)
		if err != nil {
			return "", fmt.Errorf("chart %s: %w", r.chart, err)
		}
		rel, ok := out.(*release.Release)
		if !ok {
			return "", fmt.Errorf("chart %s: a release of type %T", r.chart, out)
		}
		b.WriteString(rel.Manifest)
	}
	return b.String(), nil
}
