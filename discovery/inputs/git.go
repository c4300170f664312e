package inputs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// revisionTexts reads a path as it is at a git revision.
func revisionTexts(ctx context.Context, kept Kept, rev, at string) ([]file.Text, []config.Problem, error) {
	dir, base := at, "."
	if info, err := os.Stat(at); err != nil || !info.IsDir() {
		dir, base = filepath.Dir(at), filepath.Base(at)
	}
	if _, err := os.Stat(dir); err != nil {
		dir, base = ".", at
	}
	prefix, err := git(ctx, dir, "rev-parse", "--show-prefix")
	if err != nil {
		return nil, nil, fmt.Errorf("%q is no path, and no git revision: %w", rev, err)
	}
	inside := path.Join(strings.TrimSpace(string(prefix)), filepath.ToSlash(base))
	if _, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", rev+"^{commit}"); err != nil {
		return nil, nil, fmt.Errorf("%q is no path and no git revision", rev)
	}
	root, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, nil, err
	}
	archive, err := git(ctx, strings.TrimSpace(string(root)), "archive", "--format=tar", rev)
	if err != nil {
		return nil, nil, err
	}
	files, err := untar(archive)
	if err != nil {
		return nil, nil, err
	}
	return textsAt(kept, files, inside, func(name string) string { return rev + ":" + name })
}

// textsAt picks the configuration at or below a path of a tree.
func textsAt(kept Kept, files map[string][]byte, at string, name func(string) string) ([]file.Text, []config.Problem, error) {
	exists := func(n string) bool { _, ok := files[path.Join(at, n)]; return ok }
	if recipe := kustomization(exists); recipe != "" {
		tree := filesys.MakeFsInMemory()
		for n, data := range files {
			if err := tree.WriteFile("/"+n, data); err != nil {
				return nil, nil, err
			}
		}
		data, err := kustomize(tree, "/"+at, nil, func(below string) string { return name(path.Join(at, filepath.ToSlash(below))) })
		if err != nil {
			return nil, nil, err
		}
		t := file.Text{Name: name(at) + overlay, Data: data}
		kept.add(t, path.Join(at, recipe), false)
		return []file.Text{t}, nil, nil
	}
	var out []file.Text
	var problems []config.Problem
	charts := chartsAt(files, at)
	for _, chart := range charts {
		problems = append(problems, file.ChartProblem(name(chart)))
	}
	for n := range files {
		if isIn(n, at) && !strings.Contains("/"+n, "/.") && slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(n)) &&
			!slices.ContainsFunc(charts, func(chart string) bool { return isIn(n, chart) }) {
			problems = append(problems, file.OverlayProblem(name(path.Dir(n))))
		}
	}
	found := false
	for n, data := range files {
		rest, below := strings.CutPrefix(n, at+"/")
		if at == "." {
			rest, below = n, true
		}
		found = found || below || n == at
		if slices.ContainsFunc(charts, func(chart string) bool { return isIn(n, chart) }) {
			continue
		}
		if n == at || below && file.IsConfig(rest) {
			t := file.Text{Name: name(n), Data: data}
			kept.add(t, n, true)
			out = append(out, t)
		}
	}
	if !found {
		return nil, nil, fmt.Errorf("%s does not exist", name(at))
	}
	slices.SortFunc(out, func(a, b file.Text) int { return strings.Compare(a.Name, b.Name) })
	return out, problems, nil
}

// chartsAt are the folders at or below a path that are charts, and are not in
// another one.
func chartsAt(files map[string][]byte, at string) []string {
	var all, out []string
	for n := range files {
		if path.Base(n) == file.ChartFile && isIn(n, at) {
			all = append(all, path.Dir(n))
		}
	}
	slices.Sort(all) // what is around another one comes first
	for _, dir := range all {
		if !slices.ContainsFunc(out, func(around string) bool { return isIn(dir, around) }) {
			out = append(out, dir)
		}
	}
	return out
}

func isIn(name, dir string) bool { return dir == "." || strings.HasPrefix(name, dir+"/") }

func untar(archive []byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		out[path.Clean(h.Name)] = data
	}
}

// git runs one git command in a directory.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		if line == "" {
			line = err.Error()
		}
		return nil, fmt.Errorf("git %s: %s", args[0], strings.TrimPrefix(line, "fatal: "))
	}
	return out, nil
}

// IsRevision reports whether git knows a commit by a name, in the repository
// of a directory.
func IsRevision(ctx context.Context, dir, rev string) bool {
	_, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", rev+"^{commit}")
	return err == nil
}
