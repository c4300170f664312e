package kube

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

var lenient = protojson.UnmarshalOptions{DiscardUnknown: true}

// decode reads a spec. CRDs newer than this program have fields that it does
// not know; these have no effect, and the rest has, except that a policy that
// restricts would restrict less without them: it cannot be used.
func decode(m *config.Meta, text json.RawMessage, into proto.Message) []config.Problem {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	text = config.PlainDurations(text, into.ProtoReflect().Descriptor())
	strict := protojson.Unmarshal(text, into)
	if strict == nil {
		return nil
	}
	proto.Reset(into)
	if err := lenient.Unmarshal(text, into); err != nil {
		return []config.Problem{specProblem(m, text, err, config.Error, "InvalidValue", "the last version that could be read stays in effect")}
	}
	if m.Group == discovery.SecurityGroup {
		return []config.Problem{specProblem(m, text, strict, config.Error, "UnknownField", "what the field restricts is not known")}
	}
	return []config.Problem{specProblem(m, text, strict, config.Warning, "UnknownField", "the field has no effect")}
}

// position is how protojson begins a message that has one.
var position = regexp.MustCompile(`^proto:\s*(?:syntax error )?(?:\(line (\d+):(\d+)\):\s*)?`)

func specProblem(m *config.Meta, text []byte, err error, s config.Severity, code, effect string) config.Problem {
	// protojson writes a space or a no-break space, to keep programs from
	// relying on its text.
	message, field := strings.ReplaceAll(err.Error(), "\u00a0", " "), "spec"
	if at := position.FindStringSubmatch(message); at != nil {
		message = message[len(at[0]):]
		line, _ := strconv.Atoi(at[1])
		column, _ := strconv.Atoi(at[2])
		field += fieldAt(text, offsetOf(text, line, column))
	}
	return config.At(m, field, s, code, "%s: %s", message, effect)
}

// offsetOf turns a line and a column in characters, both from 1, into an
// offset in bytes. It is 0 for places that are not in text.
func offsetOf(text []byte, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(text[offset:], '\n')
		if i < 0 {
			return 0
		}
		offset += i + 1
	}
	for ; column > 1 && offset < len(text); column-- {
		_, size := utf8.DecodeRune(text[offset:])
		offset += size
	}
	return offset
}

// fieldAt is the path of the key or value at an offset of a JSON text, such as
// ".http[0].timeout".
func fieldAt(text []byte, offset int) string {
	l := locator{json.NewDecoder(bytes.NewReader(text)), int64(offset)}
	field, _ := l.value("")
	return field
}

type locator struct {
	tokens *json.Decoder
	offset int64
}

// passed reports whether the last token ends behind the offset.
func (l *locator) passed() bool { return l.tokens.InputOffset() > l.offset }

// value reads one value, whose path is given, up to the offset.
func (l *locator) value(path string) (field string, found bool) {
	token, err := l.tokens.Token()
	if err != nil || l.passed() {
		return path, true
	}
	for i := 0; token == json.Delim('{') || token == json.Delim('['); i++ {
		if !l.tokens.More() {
			_, err := l.tokens.Token() // the closing one
			return path, err != nil || l.passed()
		}
		inner := path + "[" + strconv.Itoa(i) + "]"
		if token == json.Delim('{') {
			key, err := l.tokens.Token()
			name, _ := key.(string)
			if inner = path + "." + name; err != nil || l.passed() {
				return inner, true
			}
		}
		if field, found := l.value(inner); found {
			return field, true
		}
	}
	return "", false
}
