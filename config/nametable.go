package config

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// NameTable is what a proxy's agent answers DNS queries with: addresses by
// host name. On the wire it is istio.networking.nds.v1.NameTable, whose
// definition Istio does not publish apart from its sources.
type NameTable map[string]NameInfo

// NameInfo is what one name stands for.
type NameInfo struct {
	IPs      []string
	Registry string // Kubernetes or External
	// Shortname and Namespace are those of a Kubernetes Service: the agent
	// knows by them the shorter forms of the name.
	Shortname, Namespace string
}

// Field numbers of istio.networking.nds.v1.
const (
	tableEntry    = 1 // NameTable.table
	entryKey      = 1
	entryValue    = 2
	infoIPs       = 1 // NameTable.NameInfo
	infoRegistry  = 2
	infoShortname = 3
	infoNamespace = 4
)

// Marshal encodes the table; equal tables give equal bytes.
func (t NameTable) Marshal() []byte {
	hosts := make([]string, 0, len(t))
	for host := range t {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	var out, entry, info []byte
	for _, host := range hosts {
		n := t[host]
		info = info[:0]
		for _, ip := range n.IPs {
			info = appendText(info, infoIPs, ip)
		}
		for i, text := range []string{n.Registry, n.Shortname, n.Namespace} {
			if text != "" {
				info = appendText(info, protowire.Number(infoRegistry+i), text)
			}
		}
		entry = appendText(entry[:0], entryKey, host)
		entry = protowire.AppendTag(entry, entryValue, protowire.BytesType)
		entry = protowire.AppendBytes(entry, info)
		out = protowire.AppendTag(out, tableEntry, protowire.BytesType)
		out = protowire.AppendBytes(out, entry)
	}
	return out
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// UnmarshalNameTable decodes what Marshal, or Istio, has encoded. Fields that
// it does not know are passed over.
func UnmarshalNameTable(b []byte) (NameTable, error) {
	t := NameTable{}
	err := eachText(b, func(field protowire.Number, entry []byte) error {
		if field != tableEntry {
			return nil
		}
		var host string
		var n NameInfo
		err := eachText(entry, func(field protowire.Number, v []byte) error {
			switch field {
			case entryKey:
				host = string(v)
			case entryValue:
				return n.read(v)
			}
			return nil
		})
		t[host] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("a name table that cannot be read: %w", err)
	}
	return t, nil
}

func (n *NameInfo) read(b []byte) error {
	return eachText(b, func(field protowire.Number, v []byte) error {
		switch field {
		case infoIPs:
			n.IPs = append(n.IPs, string(v))
		case infoRegistry:
			n.Registry = string(v)
		case infoShortname:
			n.Shortname = string(v)
		case infoNamespace:
			n.Namespace = string(v)
		}
		return nil
	})
}

// eachText visits the length-delimited fields of a message.
func eachText(b []byte, visit func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
				return errors.New("a field that ends early")
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := visit(field, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
