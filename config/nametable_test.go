package config

import (
	"encoding/hex"
	"reflect"
	"testing"
)

func TestNameTable(t *testing.T) {
	table := NameTable{
		"reviews.shop.svc.cluster.local": {IPs: []string{"10.0.0.1", "fd00::1"}, Registry: "Kubernetes", Shortname: "reviews", Namespace: "shop"},
		"example.com":                    {IPs: []string{"240.240.0.1"}, Registry: "External"},
	}
	b := table.Marshal()
	got, err := UnmarshalNameTable(b)
	if err != nil || !reflect.DeepEqual(got, table) {
		t.Errorf("%v, %v, want %v", got, err, table)
	}
	// As protoc encodes {table: {key: "a", value: {ips: "1.2.3.4", registry: "R", alt_hosts: "x"}}}.
	const foreign = "0a140a01611" + "20f0a07312e322e332e341201522a0178"
	raw, err := hex.DecodeString(foreign)
	if err != nil {
		t.Fatal(err)
	}
	got, err = UnmarshalNameTable(raw)
	if want := (NameTable{"a": {IPs: []string{"1.2.3.4"}, Registry: "R"}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for i := 1; i < len(raw); i++ {
		if _, err := UnmarshalNameTable(raw[:i]); err == nil {
			t.Errorf("takes %d of %d bytes", i, len(raw))
		}
	}
}
