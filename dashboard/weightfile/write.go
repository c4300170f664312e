package weightfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write makes the edit on disk in one step: readers see the old file or the
// new one. A refused edit is a *Refusal; the file is then as it was. Any other
// program's change between reading and writing is noticed and refused, except
// one in the instant before the rename.
func Write(e Edit) error {
	if err := e.check(); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(e.File)
	if err != nil {
		return e.refuse(0, CodeUnreadable, "the file cannot be read: %v", cause(err))
	}
	stat, err := os.Stat(path)
	if err != nil {
		return e.refuse(0, CodeUnreadable, "the file cannot be read: %v", cause(err))
	}
	if !stat.Mode().IsRegular() {
		return e.refuse(0, CodeUnreadable, "this is no regular file: weights are changed in files only")
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return e.refuse(0, CodeUnreadable, "the file cannot be read: %v", cause(err))
	}
	// A rename would also replace a file that its owner has made read-only.
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err != nil {
		return e.refuse(0, CodeUnwritable, "the file cannot be written: %v", cause(err))
	} else if err := f.Close(); err != nil {
		return e.refuse(0, CodeUnwritable, "the file cannot be written: %v", cause(err))
	}
	out, err := rewrite(old, &e)
	if err != nil {
		return err
	}
	if bytes.Equal(old, out) {
		return nil
	}
	return e.replace(path, stat, old, out)
}

// replace puts out in the place of path, if path still holds old.
func (e *Edit) replace(path string, stat fs.FileInfo, old, out []byte) error {
	// The name is hidden and has no YAML suffix: a watcher of the folder does
	// not read it.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pilotfish-*.tmp")
	if err != nil {
		return e.refuse(0, CodeUnwritable, "the folder cannot be written: %v", cause(err))
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(out)
	err = errors.Join(err, tmp.Chmod(stat.Mode().Perm()), keepOwner(tmp, stat), tmp.Sync(), tmp.Close())
	if err != nil {
		return e.refuse(0, CodeUnwritable, "the file cannot be written: %v", cause(err))
	}
	now, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(now, old) {
		return e.refuse(0, CodeFileChanged, "the file changed while it was being edited; look again, then repeat")
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return e.refuse(0, CodeUnwritable, "the file cannot be replaced: %v", cause(err))
	}
	return nil
}

// keepOwner gives the new file the old one's owner, so that a launcher that
// runs as root leaves its user's files with the user.
func keepOwner(f *os.File, stat fs.FileInfo) error {
	owner, ok := stat.Sys().(*syscall.Stat_t)
	if !ok || (int(owner.Uid) == os.Geteuid() && int(owner.Gid) == os.Getegid()) {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// cause drops the path from a file error; the problem names it already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
