package images

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The same files give the same archive, whatever their times and folders are.
func TestReproducible(t *testing.T) {
	digests := map[string]bool{}
	for range 2 {
		dir := t.TempDir()
		binary := filepath.Join(dir, "program")
		if err := os.WriteFile(binary, []byte("the same bytes"), 0o600); err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(dir, "image.tar")
		if err := Pilotfish(binary).Write(archive, "docker.io/pilotfish/pilotfish:dev"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		digests[string(b)] = true
	}
	if len(digests) != 1 {
		t.Error("two builds of the same files differ")
	}
}

// What a container runtime reads: the name, how it starts, as whom, and the
// files with their permissions.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	agent := filepath.Join(dir, "agent")
	if err := os.WriteFile(agent, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	// This test's own binary stands for Envoy; it may need no library.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image, err := Proxy(self, agent)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	if err := image.Write(archive, "docker.io/pilotfish/pilotfish-proxy:dev"); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("docker.io/pilotfish/pilotfish-proxy:dev")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "1337:1337" || !slices.Equal(config.Config.Entrypoint, []string{"/usr/local/bin/pilotfish-agent"}) {
		t.Errorf("user %q, entrypoint %q", config.Config.User, config.Config.Entrypoint)
	}
	files := map[string]tar.Header{}
	r := mutate.Extract(img)
	defer func() { _ = r.Close() }()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Clean(h.Name)] = *h
	}
	if h := files["usr/local/bin/pilotfish-agent"]; h.Mode&0o777 != 0o755 || h.Uid != 0 {
		t.Errorf("agent: %+v", h)
	}
	if h := files["usr/local/bin/pilot-agent"]; h.Typeflag != tar.TypeSymlink || h.Linkname != "pilotfish-agent" {
		t.Errorf("link: %+v", h)
	}
	if h := files["tmp"]; h.Mode&0o7777 != 0o1777 {
		t.Errorf("tmp: %+v", h)
	}
	if h := files["etc/istio/proxy"]; h.Typeflag != tar.TypeDir || h.Uid != 1337 {
		t.Errorf("working folder: %+v", h)
	}
}

// An Envoy that needs shared libraries gets them, with those that they need.
func TestLibraries(t *testing.T) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Skip("no /bin/sh to look at")
	}
	files, err := Libraries(shell)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("this machine's shell is static")
	}
	if !slices.ContainsFunc(files, func(f File) bool { return filepath.Base(f.Path) == "libc.so.6" }) {
		t.Errorf("no libc in %v", files)
	}
}
