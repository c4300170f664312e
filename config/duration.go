package config

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// PlainDurations rewrites, in the JSON form of a message, the durations that
// Istio's API accepts beyond protobuf's own form ("15m", "1h30m", "30ms") to
// seconds ("900s"), which protojson reads. Everything else stays byte for
// byte, each value on its line. Text that is not JSON is returned as it is.
func PlainDurations(text []byte, md protoreflect.MessageDescriptor) []byte {
	if !anyDuration(text) {
		return text
	}
	w := durationWalk{in: text, d: json.NewDecoder(bytes.NewReader(text))}
	w.d.UseNumber()
	if !w.value(md) || w.copied == 0 {
		return text
	}
	return append(w.out, w.in[w.copied:]...)
}

// anyDuration reports whether some string in JSON may be a duration that is not
// in protobuf's form: it begins as a number, or with an escape, and is not just
// digits, dots and an s.
func anyDuration(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '"')
		if i < 0 {
			return false
		}
		text = text[i+1:]
		if len(text) == 0 || bytes.IndexByte([]byte("+-.0123456789\\"), text[0]) < 0 {
			continue
		}
		rest := bytes.TrimLeft(text, ".0123456789")
		if !bytes.HasPrefix(rest, []byte(`s"`)) || len(rest) == len(text) {
			return true
		}
	}
}

// durationWalk reads tokens and remembers how much of the input it copied.
type durationWalk struct {
	in     []byte
	d      *json.Decoder
	out    []byte
	copied int64
}

// value walks one value, of which md is the message type, or nil if it holds
// nothing of interest. False means that the input is no JSON.
func (w *durationWalk) value(md protoreflect.MessageDescriptor) bool {
	start := w.d.InputOffset()
	t, err := w.d.Token()
	if err != nil {
		return false
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return w.list(md)
		}
		return w.object(md)
	case string:
		if md != nil && md.FullName() == "google.protobuf.Duration" {
			w.duration(t, start)
		}
	}
	return true
}

func (w *durationWalk) list(md protoreflect.MessageDescriptor) bool {
	for w.d.More() {
		if !w.value(md) {
			return false
		}
	}
	_, err := w.d.Token()
	return err == nil
}

func (w *durationWalk) object(md protoreflect.MessageDescriptor) bool {
	for w.d.More() {
		t, err := w.d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return false
		}
		if !w.value(valueType(md, name)) {
			return false
		}
	}
	_, err := w.d.Token()
	return err == nil
}

// valueType is the message type of a field's values. Maps are walked like
// messages whose fields all have the type of the map's values.
func valueType(md protoreflect.MessageDescriptor, name string) protoreflect.MessageDescriptor {
	if md == nil {
		return nil
	}
	if md.IsMapEntry() {
		return md.Fields().ByNumber(2).Message()
	}
	fd := md.Fields().ByJSONName(name)
	if fd == nil {
		fd = md.Fields().ByTextName(name)
	}
	if fd == nil {
		return nil
	}
	return fd.Message() // of a map, the entry's
}

func (w *durationWalk) duration(s string, before int64) {
	d, err := time.ParseDuration(s)
	if err != nil || isSeconds(s) {
		return
	}
	end := w.d.InputOffset()
	open := before + int64(bytes.IndexByte(w.in[before:end], '"'))
	w.out = append(append(w.out, w.in[w.copied:open]...), strconv.Quote(seconds(d))...)
	w.copied = end
}

func isSeconds(s string) bool {
	_, err := strconv.ParseFloat(strings.TrimSuffix(s, "s"), 64)
	return err == nil && strings.HasSuffix(s, "s")
}

// seconds is protobuf's form, exact to the nanosecond.
func seconds(d time.Duration) string {
	sign := ""
	n := uint64(d)
	if d < 0 {
		sign, n = "-", -n
	}
	const unit = uint64(time.Second)
	out := sign + strconv.FormatUint(n/unit, 10)
	if frac := n % unit; frac > 0 {
		out += "." + strings.TrimRight(leftPad(strconv.FormatUint(frac, 10), 9), "0")
	}
	return out + "s"
}

func leftPad(s string, n int) string { return strings.Repeat("0", n-len(s)) + s }
