package images

import (
	"cmp"
	"os"
)

// Pilotfish is the control plane's image: one static binary, which is also
// the command that installs.
func Pilotfish(binary string) Image {
	return Image{
		Layers: [][]File{base(), {
			{Path: "/usr/local/bin/pilotfish", Source: binary},
		}},
		Entrypoint: []string{"/usr/local/bin/pilotfish"}, Cmd: []string{"serve"}, User: "1337:1337",
		Env: []string{"PATH=/usr/local/bin"},
	}
}

// Proxy is the image of sidecars and gateways: Envoy with the shared
// libraries that it needs, and the agent, which starts it. The agent makes
// the pod's redirection itself, so that no iptables is in it.
func Proxy(envoy, agent string) (Image, error) {
	libraries, err := Libraries(envoy)
	if err != nil {
		return Image{}, err
	}
	return Image{
		Layers: [][]File{
			append(base(),
				// The agent's working files; pods usually mount volumes there.
				File{Path: "/etc/istio/proxy", Folder: true, Owner: proxyUser},
				File{Path: "/var/lib/istio/data", Folder: true, Owner: proxyUser},
			),
			append(libraries, File{Path: "/usr/local/bin/envoy", Source: envoy}),
			{
				{Path: "/usr/local/bin/pilotfish-agent", Source: agent},
				// The name that Istio's injection templates use.
				{Path: "/usr/local/bin/pilot-agent", Link: "pilotfish-agent"},
			},
		},
		Entrypoint: []string{"/usr/local/bin/pilotfish-agent"}, User: "1337:1337",
		Env: []string{"PATH=/usr/local/bin"},
	}, nil
}

// Example is the application of the examples, in a version that its answers
// tell.
func Example(binary, version string) Image {
	return Image{
		Layers:     [][]File{base(), {{Path: "/app", Source: binary}}},
		Entrypoint: []string{"/app"}, Cmd: []string{"serve", "8080"}, User: "1337:1337",
		Env: []string{"VERSION=" + version, "WORKLOAD=myapp-" + version},
	}
}

// proxyUser is the user whose traffic the redirection lets out untouched.
const proxyUser = 1337

// base is what programs expect of any system: users, a folder for temporary
// files, and the authorities of the public web where this machine has them.
func base() []File {
	files := []File{
		{Path: "/etc/passwd", Content: "root:x:0:0:root:/:/\nistio-proxy:x:1337:1337:istio-proxy:/:/\nnobody:x:65534:65534:nobody:/:/\n"},
		{Path: "/etc/group", Content: "root:x:0:\nistio-proxy:x:1337:\nnogroup:x:65534:\n"},
		{Path: "/etc/nsswitch.conf", Content: "hosts: files dns\n"},
		{Path: "/tmp", Folder: true, Mode: 0o1777},
	}
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(cmp.Or(os.Getenv("SSL_CERT_FILE"), authorities)); err == nil {
		files = append(files, File{Path: authorities, Source: cmp.Or(os.Getenv("SSL_CERT_FILE"), authorities), Mode: 0o644})
	}
	return files
}
