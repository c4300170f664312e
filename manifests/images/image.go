package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one of an image. Exactly one of Source, Content, Link and Folder
// says what it is.
type File struct {
	Path    string // in the image, absolute
	Source  string // a file of this machine
	Content string
	Link    string // a symbolic link to this path of the image
	Folder  bool
	Mode    int64 // permissions; 0 means 0755 for folders and what has a Source, else 0644
	Owner   int   // user and group
}

// Image is what an image holds and how it starts.
type Image struct {
	// Layers are made in this order: what changes seldom goes first, so that
	// nodes need to get it once only.
	Layers     [][]File
	Entrypoint []string
	Cmd        []string
	User       string
	Env        []string
}

// epoch is every file's and every image's time.
var epoch = time.Unix(0, 0).UTC()

// Build is the image for this machine's architecture.
func (i Image) Build() (v1.Image, error) {
	img := empty.Image
	for n, files := range i.Layers {
		content, err := archive(files)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}, tarball.WithCompressionLevel(gzip.BestSpeed))
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer: layer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: fmt.Sprintf("layer %d", n+1)},
		})
		if err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", runtime.GOARCH, v1.Time{Time: epoch}
	file.Config = v1.Config{Entrypoint: i.Entrypoint, Cmd: i.Cmd, User: i.User, Env: i.Env, WorkingDir: "/"}
	return mutate.ConfigFile(img, file)
}

// Unfinished is what archives are called while they are written, beside their
// places.
const Unfinished = ".image-*"

// Write builds the image and writes it as a docker archive under its tags.
func (i Image) Write(to string, tags ...string) error {
	img, err := i.Build()
	if err != nil {
		return err
	}
	images := map[name.Tag]v1.Image{}
	for _, t := range tags {
		tag, err := name.NewTag(t)
		if err != nil {
			return err
		}
		images[tag] = img
	}
	f, err := os.CreateTemp(path.Dir(to), Unfinished)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails once it has its name
	if err := tarball.MultiWrite(images, f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// archive is a tar of the files in the order of their paths, with the folders
// above them.
func archive(files []File) ([]byte, error) {
	files = withParents(files)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func withParents(files []File) []File {
	have := map[string]bool{"/": true}
	for _, f := range files {
		have[f.Path] = true
	}
	out := slices.Clone(files)
	for _, f := range files {
		for dir := path.Dir(f.Path); !have[dir]; dir = path.Dir(dir) {
			have[dir] = true
			out = append(out, File{Path: dir, Folder: true})
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func (f File) write(w *tar.Writer) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Uid: f.Owner, Gid: f.Owner, ModTime: epoch, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
	}
	content := []byte(f.Content)
	switch {
	case f.Folder:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case f.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
	case f.Source != "":
		var err error
		if content, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	if h.Mode == 0 {
		h.Mode = 0o644
		if f.Folder || f.Source != "" || f.Link != "" {
			h.Mode = 0o755
		}
	}
	h.Size = int64(len(content))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
