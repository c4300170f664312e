package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// Files are a certificate that somebody else keeps, such as a mount: PEM, the
// chain with the leaf first.
type Files struct{ Chain, Key string }

// runFiles takes the certificate from files, and again whenever they change,
// until ctx ends. Files that do not belong together leave the certificate of
// before in use: they may be changed one after the other.
func (s *Source) runFiles(ctx context.Context) {
	f := s.options.Files
	look := time.NewTicker(s.options.Look)
	defer look.Stop()
	var seen [2]stamp
	for {
		now := [2]stamp{stat(f.Chain), stat(f.Key)}
		if now != seen {
			seen = now
			if c, err := f.load(); err != nil {
				s.failures.Add(1)
				s.options.Log.Warn("no certificate from files", zap.Error(err), zap.Stringer("present_one", s))
			} else {
				s.take(c)
				s.renewals.Add(1)
				s.options.Log.Info("certificate read", zap.String("file", f.Chain), zap.Time("until", c.NotAfter))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func (f *Files) load() (*Certificate, error) {
	chain, err := os.ReadFile(f.Chain)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", f.Chain, f.Key, err)
	}
	return &Certificate{TLS: &pair, ChainPEM: chain, KeyPEM: key, NotAfter: pair.Leaf.NotAfter, Obtained: time.Now()}, nil
}

// Output is where what is served is also written, for programs that read
// certificates from files.
type Output struct {
	Dir  string // empty for nowhere
	Mode os.FileMode
}

// write brings the folder's files to a state. Each file is whole at any time.
func (o *Output) write(n *state) error {
	if o.Dir == "" {
		return nil
	}
	type file struct {
		name string
		text []byte
	}
	files := []file{{"root-cert.pem", n.roots}}
	if n.cert != nil {
		files = append(files, file{"key.pem", n.cert.KeyPEM}, file{"cert-chain.pem", n.cert.ChainPEM})
	}
	for _, f := range files {
		path := filepath.Join(o.Dir, f.name)
		if has, err := os.ReadFile(path); len(f.text) == 0 || err == nil && bytes.Equal(has, f.text) {
			continue
		}
		if err := os.WriteFile(path+".new", f.text, o.Mode); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
