package kube

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// A saved view is a file: one line of JSON, its header, then gzipped JSON, one
// object a line. It holds no Secrets. It is replaced as a whole.
const (
	savedFormat = "pilotfish view 1"
	// maxSaved bounds what is read of a file, unpacked, in bytes.
	maxSaved = 4 << 30
)

type savedHeader struct {
	Format string    `json:"format"`
	Server string    `json:"server"` // whose view it is
	Time   time.Time `json:"time"`
	SHA256 string    `json:"sha256"` // of what follows the line
}

// savedObject is one object. Body is encoded as protobuf; Type is its message's
// name, or that of a Kubernetes type.
type savedObject struct {
	Meta   config.Meta `json:"meta"`
	Type   string      `json:"type"`
	Body   []byte      `json:"body"`
	Status []byte      `json:"status,omitempty"`
	// Unhealthy is discovery.Object's.
	Unhealthy bool `json:"unhealthy,omitempty"`
}

// kubernetesType is one that encodes itself.
type kubernetesType interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// newKubernetesType returns an empty value of a type that views hold, nil for
// others.
func newKubernetesType(name string) kubernetesType {
	switch name {
	case "*v1.Namespace":
		return &corev1.Namespace{}
	case "*v1.Node":
		return &corev1.Node{}
	case "*v1.Service":
		return &corev1.Service{}
	case "*v1.Pod":
		return &corev1.Pod{}
	case "*v1.ConfigMap":
		return &corev1.ConfigMap{}
	case "*v1.EndpointSlice":
		return &discoveryv1.EndpointSlice{}
	case "*v1.Ingress":
		return &networkingv1.Ingress{}
	case "*v1.MutatingWebhookConfiguration":
		return &admissionv1.MutatingWebhookConfiguration{}
	case "*v1.IngressClass":
		return &networkingv1.IngressClass{}
	}
	return nil
}

// unsaved reports whether an object must not be saved: a Secret, and what lets
// proxies have one.
func unsaved(k config.Key) bool {
	return k.Group == "" && k.Kind == "Secret" || discovery.IsReferenceGrant(k)
}

// halfWritten is the pattern of the names, in the folder of a view, of what
// shall become one.
const halfWritten = ".view-*"

// removeHalfWritten removes what a process that was killed while it saved has
// left beside a view. Only one process may use a folder at a time.
func removeHalfWritten(path string) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), halfWritten))
	for _, f := range files {
		_ = os.Remove(f)
	}
}

// save writes a view to a file. What was there before stays unless all of the
// new view is on disk.
func save(path, server string, objects []discovery.Object, now time.Time) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	enc := json.NewEncoder(z)
	for i := range objects {
		if unsaved(objects[i].Meta.Key) {
			continue
		}
		o, err := encodeObject(&objects[i])
		if err != nil {
			return fmt.Errorf("%s: %w", objects[i].Meta.Key, err)
		}
		if err := enc.Encode(o); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	sum := sha256.Sum256(packed.Bytes())
	header, err := json.Marshal(savedHeader{savedFormat, server, now, hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), halfWritten)
	if err != nil {
		return err
	}
	_, err = f.Write(append(append(header, '\n'), packed.Bytes()...))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func encodeObject(o *discovery.Object) (*savedObject, error) {
	out := &savedObject{Meta: o.Meta, Unhealthy: o.Unhealthy}
	var err error
	switch b := o.Body.(type) {
	case proto.Message:
		out.Type = string(b.ProtoReflect().Descriptor().FullName())
		out.Body, err = proto.Marshal(b)
	case kubernetesType:
		if out.Type = fmt.Sprintf("%T", b); newKubernetesType(out.Type) == nil {
			return nil, fmt.Errorf("a %s cannot be saved", out.Type)
		}
		out.Body, err = b.Marshal()
	default:
		return nil, fmt.Errorf("a %T cannot be saved", b)
	}
	if err == nil && o.Status != nil {
		out.Status, err = proto.Marshal(o.Status)
	}
	return out, err
}

// load reads what save has written for a server. Whatever is wrong with the
// file, none of it is used.
func load(path, server string) ([]discovery.Object, time.Time, error) {
	var none time.Time
	f, err := os.Open(path)
	if err != nil {
		return nil, none, err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, none, fmt.Errorf("%s: no header: %w", path, err)
	}
	var h savedHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Format != savedFormat {
		return nil, none, fmt.Errorf("%s: its header is not that of %q", path, savedFormat)
	}
	if h.Server != server {
		return nil, none, fmt.Errorf("%s: is of %s, not of %s", path, h.Server, server)
	}
	packed, err := io.ReadAll(in)
	if err != nil {
		return nil, none, err
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != h.SHA256 {
		return nil, none, fmt.Errorf("%s: its content does not match its checksum", path)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, none, fmt.Errorf("%s: %w", path, err)
	}
	var out []discovery.Object
	for dec := json.NewDecoder(io.LimitReader(z, maxSaved)); ; {
		var s savedObject
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			return out, h.Time, nil
		} else if err != nil {
			return nil, none, fmt.Errorf("%s: %w", path, err)
		}
		o, err := decodeObject(&s)
		if err != nil {
			return nil, none, fmt.Errorf("%s: %s: %w", path, s.Meta.Key, err)
		}
		out = append(out, o)
	}
}

func decodeObject(s *savedObject) (discovery.Object, error) {
	o := discovery.Object{Meta: s.Meta, Unhealthy: s.Unhealthy}
	if k := newKubernetesType(s.Type); k != nil {
		o.Body = k
		return o, k.Unmarshal(s.Body)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(s.Type))
	if err != nil {
		return o, fmt.Errorf("of unknown type %s", s.Type)
	}
	m := t.New().Interface()
	o.Body = m
	if err := proto.Unmarshal(s.Body, m); err != nil {
		return o, err
	}
	if s.Status != nil {
		o.Status = &networking.ServiceEntryStatus{}
		return o, proto.Unmarshal(s.Status, o.Status)
	}
	return o, nil
}
