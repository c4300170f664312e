package modules

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// moduleLayer is the media type of a layer that is a module itself; in other
// images it is a file of the last layer.
const moduleLayer = "application/vnd.module.wasm.content.layer.v1+wasm"

// maxManifest bounds manifests and indexes.
const maxManifest = 4 << 20

// pull writes the module of an image.
func (f *fetcher) pull(ctx context.Context, m *module, secret []byte, into io.Writer) error {
	repo, err := remote.NewRepository(m.url.Host + m.url.Path)
	if err != nil {
		return err
	}
	client := &auth.Client{Client: f.client, Cache: auth.NewCache()}
	if secret != nil {
		store, err := credentials.NewMemoryStoreFromDockerConfig(secret)
		if err != nil {
			return errors.New("its pull secret is no Docker configuration") // an error could show it
		}
		client.Credential = credentials.Credential(store)
	}
	repo.Client, repo.PlainHTTP = client, f.isPlain(m.url.Host)
	d, err := repo.Resolve(ctx, cmp.Or(repo.Reference.Reference, "latest"))
	if err != nil {
		return err
	}
	if m.sum != "" && d.Digest.String() != "sha256:"+m.sum {
		return fmt.Errorf("the image's digest is %s, want sha256:%s", d.Digest, m.sum)
	}
	layer, err := layerOf(ctx, repo, d)
	if err != nil {
		return err
	}
	if layer.Size > maxModule {
		return errors.New("its layer is larger than 256 MiB")
	}
	body, err := repo.Blobs().Fetch(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	checked := content.NewVerifyReader(body, layer)
	if err := unpack(checked, into); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, checked); err != nil {
		return err
	}
	return checked.Verify()
}

// isPlain reports whether a registry is spoken to without TLS.
func (f *fetcher) isPlain(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback() || slices.Contains(f.plain, host) || slices.Contains(f.plain, name)
}

// layerOf is the layer of an image that has the module.
func layerOf(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) (ocispec.Descriptor, error) {
	for range 3 { // an index, perhaps of indexes
		if d.Size > maxManifest {
			return d, errors.New("its manifest is larger than 4 MiB")
		}
		text, err := content.FetchAll(ctx, repo.Manifests(), d)
		if err != nil {
			return d, err
		}
		var m struct {
			Manifests, Layers []ocispec.Descriptor
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return d, fmt.Errorf("its manifest: %w", err)
		}
		switch {
		case len(m.Layers) > 0:
			for _, l := range m.Layers {
				if l.MediaType == moduleLayer {
					return l, nil
				}
			}
			return m.Layers[len(m.Layers)-1], nil
		case len(m.Manifests) == 0:
			return d, errors.New("the image has no layers")
		}
		i := slices.IndexFunc(m.Manifests, func(d ocispec.Descriptor) bool {
			return d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH
		})
		d = m.Manifests[max(i, 0)]
	}
	return d, errors.New("its index leads to no image")
}

// magic begins every module.
var magic = []byte("\x00asm")

var errNoModule = errors.New("it is no Wasm module, and holds none")

// unpack writes the module that a stream is, or holds: as a file of a tar
// archive, which may be compressed.
func unpack(from io.Reader, into io.Writer) error {
	in := bufio.NewReader(io.LimitReader(from, maxModule+1))
	start, _ := in.Peek(len(magic))
	switch {
	case bytes.Equal(start, magic):
		return copied(into, in)
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		return fromArchive(z, into)
	}
	return fromArchive(in, into)
}

func copied(into io.Writer, from io.Reader) error {
	n, err := io.Copy(into, io.LimitReader(from, maxModule+1))
	if err == nil && n > maxModule {
		return errors.New("it is larger than 256 MiB")
	}
	return err
}

func fromArchive(from io.Reader, into io.Writer) error {
	archive := tar.NewReader(io.LimitReader(from, 2*maxModule))
	for {
		h, err := archive.Next()
		if err != nil {
			return errNoModule
		}
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(path.Base(h.Name), ".wasm") {
			continue
		}
		in := bufio.NewReader(archive)
		if start, _ := in.Peek(len(magic)); !bytes.Equal(start, magic) {
			return errNoModule
		}
		return copied(into, in)
	}
}
