package telemetry

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// datadogSpan is one of Datadog's spans (its agent's traces API, version 0.4).
type datadogSpan struct {
	name, service, resource, kind string
	trace, id, parent             uint64
	meta                          map[string]any
}

type datadog struct {
	mu    sync.Mutex
	list  []datadogSpan
	wrong error
}

// startDatadog takes traces until the test ends; port is where.
func startDatadog(t *testing.T) (d *datadog, port int) {
	t.Helper()
	d = &datadog{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if r.URL.Path != "/v0.4/traces" || err != nil {
			return // what an agent is asked besides
		}
		d.take(b)
		_, _ = io.WriteString(w, `{"rate_by_service":{"service:,env:":1}}`)
	}))
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Close()
		if d.wrong != nil {
			t.Error(d.wrong)
		}
	})
	return d, portOf(t, at.Host)
}

func (d *datadog) take(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, err := (&msgpack{b}).value()
	if err != nil {
		d.wrong = err
		return
	}
	traces, _ := all.([]any)
	for _, t := range traces {
		spans, _ := t.([]any)
		for _, s := range spans {
			m, _ := s.(map[string]any)
			meta, _ := m["meta"].(map[string]any)
			text := func(key string) string { v, _ := m[key].(string); return v }
			number := func(key string) uint64 { v, _ := m[key].(uint64); return v }
			d.list = append(d.list, datadogSpan{
				text("name"), text("service"), text("resource"), text("type"), number("trace_id"), number("span_id"), number("parent_id"), meta,
			})
		}
	}
}

// spans are those whose URL holds a text.
func (d *datadog) spans(path string) []datadogSpan {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []datadogSpan
	for _, s := range d.list {
		if at, _ := s.meta["http.url"].(string); strings.Contains(at, path) {
			out = append(out, s)
		}
	}
	return out
}

// msgpack reads what is left of a text in MessagePack.
type msgpack struct{ b []byte }

func (m *msgpack) take(n int) ([]byte, error) {
	if len(m.b) < n {
		return nil, io.ErrUnexpectedEOF
	}
	out := m.b[:n]
	m.b = m.b[n:]
	return out, nil
}

func (m *msgpack) uint(size int) (uint64, error) {
	b, err := m.take(size)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-size), b...)), nil
}

// value is a text, a uint64 (of negative numbers the two's complement), a
// float64, a bool, a []any, a map[string]any, or nil.
func (m *msgpack) value() (any, error) {
	head, err := m.take(1)
	if err != nil {
		return nil, err
	}
	c := head[0]
	sized := func(size int, f func(n int) (any, error)) (any, error) {
		n, err := m.uint(size)
		if err != nil {
			return nil, err
		}
		return f(int(min(n, math.MaxInt32)))
	}
	switch {
	case c < 0x80:
		return uint64(c), nil
	case c < 0x90:
		return m.object(int(c & 0x0f))
	case c < 0xa0:
		return m.array(int(c & 0x0f))
	case c < 0xc0:
		return m.text(int(c & 0x1f))
	case c >= 0xe0:
		return uint64(int64(int8(c))), nil
	}
	switch c {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return c == 0xc3, nil
	case 0xca:
		n, err := m.uint(4)
		return float64(math.Float32frombits(uint32(n))), err
	case 0xcb:
		n, err := m.uint(8)
		return math.Float64frombits(n), err
	case 0xcc, 0xcd, 0xce, 0xcf:
		return m.uint(1 << (c - 0xcc))
	case 0xd0:
		n, err := m.uint(1)
		return uint64(int64(int8(n))), err
	case 0xd1:
		n, err := m.uint(2)
		return uint64(int64(int16(n))), err
	case 0xd2:
		n, err := m.uint(4)
		return uint64(int64(int32(n))), err
	case 0xd3:
		return m.uint(8)
	case 0xd9, 0xda, 0xdb:
		return sized(1<<(c-0xd9), m.text)
	case 0xdc, 0xdd:
		return sized(2<<(c-0xdc), m.array)
	case 0xde, 0xdf:
		return sized(2<<(c-0xde), m.object)
	}
	return nil, fmt.Errorf("MessagePack of type %#x", c)
}

func (m *msgpack) text(n int) (any, error) {
	b, err := m.take(n)
	return string(b), err
}

func (m *msgpack) array(n int) (any, error) {
	var out []any
	for range n {
		v, err := m.value()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (m *msgpack) object(n int) (any, error) {
	out := map[string]any{}
	for range n {
		k, err := m.value()
		if err != nil {
			return nil, err
		}
		key, _ := k.(string)
		if out[key], err = m.value(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
