package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// sample is what one of Istio's sample applications has people apply together.
type sample struct {
	files []string // patterns below samples/
	each  []string // each of these with the files
	// found are findings that are right, as "file code" with the reason.
	found map[string]string
}

var samples = map[string]sample{
	"bookinfo": {
		files: []string{"bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/destination-rule-all.yaml", "bookinfo/networking/bookinfo-gateway.yaml"},
		each:  []string{"bookinfo/networking/virtual-service-*.yaml", "bookinfo/networking/fault-*.yaml", "bookinfo/networking/egress-*.yaml"},
		found: map[string]string{
			"destination-rule-all.yaml SubsetEmpty":         "routes lead to versions that bookinfo.yaml does not have: they are applied by files of their own",
			"destination-rule-all.yaml DefinedTwice":        "fault-injection-details-v1.yaml brings the rule again",
			"fault-injection-details-v1.yaml RouteShadowed": "the first rule takes every request",
		},
	},
	"bookinfo with mTLS": {
		files: []string{"bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/destination-rule-all-mtls.yaml", "bookinfo/networking/virtual-service-all-v1.yaml"},
	},
	"bookinfo with reviews alone": {
		files: []string{"bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/destination-rule-reviews.yaml", "bookinfo/networking/virtual-service-reviews-v3.yaml"},
	},
	"bookinfo with databases": {
		files: []string{"bookinfo/platform/kube/bookinfo.yaml", "bookinfo/platform/kube/bookinfo-ratings-v2.yaml", "bookinfo/platform/kube/bookinfo-db.yaml",
			"bookinfo/networking/destination-rule-all.yaml", "bookinfo/networking/virtual-service-ratings-db.yaml"},
	},
	"bookinfo details v2": {
		files: []string{"bookinfo/platform/kube/bookinfo.yaml", "bookinfo/platform/kube/bookinfo-details-v2.yaml",
			"bookinfo/networking/destination-rule-all.yaml", "bookinfo/networking/virtual-service-details-v2.yaml"},
	},
	"httpbin":       {files: []string{"httpbin/httpbin.yaml", "httpbin/httpbin-gateway.yaml"}},
	"httpbin plain": {files: []string{"httpbin/httpbin-nodeport.yaml"}},
	"helloworld":    {files: []string{"helloworld/helloworld.yaml", "helloworld/helloworld-gateway.yaml"}},
	"curl":          {files: []string{"curl/curl.yaml"}},
	"tcp-echo":      {files: []string{"tcp-echo/tcp-echo-services.yaml", "tcp-echo/tcp-echo-all-v1.yaml"}},
	"tcp-echo 20": {files: []string{"tcp-echo/tcp-echo-services.yaml", "tcp-echo/tcp-echo-all-v1.yaml", "tcp-echo/tcp-echo-20-v2.yaml"}, found: map[string]string{
		"tcp-echo-all-v1.yaml DefinedTwice": "the second file takes the place of the first one's rule",
	}},
	"websockets":   {files: []string{"websockets/app.yaml", "websockets/route.yaml"}},
	"health-check": {files: []string{"health-check/liveness-command.yaml", "health-check/liveness-http-same-port.yaml"}},
	"ext-authz":    {files: []string{"extauthz/ext-authz.yaml"}},
	"external":     {each: []string{"external/*.yaml"}},
	"ratelimit": {
		files: []string{"bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/bookinfo-gateway.yaml", "ratelimit/rate-limit-service.yaml"},
		each:  []string{"ratelimit/local-rate-limit-service.yaml"},
		found: map[string]string{
			"local-rate-limit-service.yaml PatchUnmatched": "it names port 8000, which bookinfo's services do not have",
		},
	},
	"telemetry":    {files: []string{"bookinfo/platform/kube/bookinfo.yaml"}, each: []string{"open-telemetry/*/telemetry.yaml", "open-telemetry/otel.yaml"}},
	"grpc-echo":    {files: []string{"grpc-echo/grpc-echo.yaml"}},
	"jwt-server":   {files: []string{"jwt-server/jwt-server.yaml"}},
	"multicluster": {each: []string{"multicluster/expose-services.yaml"}},
}

// Nothing is wrong with Istio's own samples but what is reviewed above. They
// are read where the pinned module of istioctl has them.
func TestLintIsSilentOnIstioSamples(t *testing.T) {
	dir := filepath.Join(istioModule(t), "samples")
	for name, s := range samples {
		t.Run(name, func(t *testing.T) {
			base := matching(t, dir, s.files)
			sets := [][]string{base}
			for _, one := range matching(t, dir, s.each) {
				sets = append(sets, append(slices.Clone(base), one))
			}
			if len(base) == 0 {
				sets = sets[1:]
			}
			seen := map[string]bool{}
			for _, set := range sets {
				for _, f := range findingsOf(t, set...) {
					key := filepath.Base(f.File) + " " + f.Code
					seen[key] = true
					if f.Severity.String() != "info" && s.found[key] == "" {
						t.Errorf("%s:\n%s", strings.Join(set, " "), f.Problem)
					}
				}
			}
			for key := range s.found {
				if !seen[key] {
					t.Errorf("%s is not found", key)
				}
			}
		})
	}
}

func findingsOf(t *testing.T, paths ...string) []meshtest.Finding {
	t.Helper()
	code, stdout, stderr := run(append([]string{"lint", "-o", "json"}, paths...)...)
	var list struct{ Findings []meshtest.Finding }
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code == exitUsage {
		t.Fatalf("%v: exit code %d, %v %s", paths, code, err, stderr)
	}
	return list.Findings
}

func matching(t *testing.T, dir string, patterns []string) []string {
	t.Helper()
	var out []string
	for _, p := range patterns {
		files, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s, %v", p, err)
		}
		out = append(out, files...)
	}
	return out
}

// istioModule is the folder of the module that istioctl is built from.
func istioModule(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", "istio.io/istio")
	cmd.Dir = "../../tools/istio"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if json.Unmarshal(out, &module) != nil || err != nil || module.Dir == "" {
		t.Fatalf("the module of istioctl: %v %s %s", err, module.Error, stderr.String())
	}
	return module.Dir
}
