package images

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// libraryFolders are where Debian, Fedora and others keep the C library.
func libraryFolders(m elf.Machine) []string {
	triplet := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}[m]
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib"}
}

// Libraries are the loader and the shared libraries that a binary of this
// machine's kind needs, at the paths where they lie here.
func Libraries(binary string) ([]File, error) {
	found := map[string]bool{}
	var out []File
	todo := []string{binary}
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		needed, err := needs(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, at := range needed {
			if !found[at] {
				found[at] = true
				out = append(out, File{Path: at, Source: at})
				todo = append(todo, at)
			}
		}
	}
	return out, nil
}

// needs are the paths of the libraries that one ELF file asks for.
func needs(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return nil, err
			}
			out = append(out, strings.TrimRight(string(b), "\x00"))
		}
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		at, err := locate(name, libraryFolders(f.Machine))
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

func locate(name string, folders []string) (string, error) {
	for _, dir := range folders {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("needs %s, which is not in %s", name, strings.Join(folders, ", "))
}
