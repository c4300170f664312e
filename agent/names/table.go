package names

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pilotfish-mesh/pilotfish/agent/wire"
)

// Table is what the control plane knows of names. It never changes.
type Table struct {
	// hosts are in lower case and without a final dot; wildcards are "*.host".
	hosts map[string][]netip.Addr
}

// The fields of NameTable and its NameInfo.
const (
	fieldTable = 1 // map of NameInfo by host

	fieldIPs       = 1
	fieldRegistry  = 2
	fieldShortName = 3
	fieldNamespace = 4
)

// Parse reads a NameTable for a proxy of a namespace, whose applications call
// the services beside them by their short names.
func Parse(b []byte, namespace string) (*Table, error) {
	t := &Table{hosts: map[string][]netip.Addr{}}
	err := wire.Fields(b, func(number protowire.Number, v []byte) error {
		if number != fieldTable {
			return nil
		}
		var host string
		var e entry
		err := wire.Fields(v, func(number protowire.Number, v []byte) error {
			if number == 1 {
				host = string(v)
				return nil
			}
			return e.parse(v)
		})
		if err == nil {
			t.add(strings.ToLower(strings.TrimSuffix(host, ".")), &e, namespace)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("name table: %w", err)
	}
	return t, nil
}

// entry is a NameInfo.
type entry struct {
	addresses                      []netip.Addr
	registry, shortName, namespace string
}

func (e *entry) parse(b []byte) error {
	return wire.Fields(b, func(number protowire.Number, v []byte) error {
		switch number {
		case fieldIPs:
			if a, err := netip.ParseAddr(string(v)); err == nil { // others cannot be answered with
				e.addresses = append(e.addresses, a.Unmap())
			}
		case fieldRegistry:
			e.registry = string(v)
		case fieldShortName:
			e.shortName = string(v)
		case fieldNamespace:
			e.namespace = string(v)
		}
		return nil
	})
}

// add takes a host, and for a Kubernetes Service all its shorter forms.
func (t *Table) add(host string, e *entry, namespace string) {
	t.hosts[host] = e.addresses
	if e.registry != "Kubernetes" || e.shortName == "" {
		return
	}
	short := strings.ToLower(e.shortName) + "." + e.namespace
	for _, form := range []string{short, short + ".svc"} {
		t.addForm(form, e)
	}
	if e.namespace == namespace {
		t.addForm(strings.ToLower(e.shortName), e)
	}
}

// addForm never replaces a host of that very name.
func (t *Table) addForm(form string, e *entry) {
	if _, taken := t.hosts[form]; !taken {
		t.hosts[form] = e.addresses
	}
}

// Find returns a name's addresses of both families, and whether it is known.
// An exact name goes before a wildcard, a longer wildcard before a shorter one.
func (t *Table) Find(name string) ([]netip.Addr, bool) {
	if t == nil {
		return nil, false
	}
	if a, ok := t.hosts[name]; ok {
		return a, true
	}
	for rest := name; ; {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			return nil, false
		}
		if a, ok := t.hosts["*."+after]; ok {
			return a, true
		}
		rest = after
	}
}

// Len is the number of names.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.hosts)
}
