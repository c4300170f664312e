package file

import (
	"bytes"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

var yamlPosition = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// hints say what usually is wrong where the parser's words do not.
var hints = map[string]string{
	"mapping values are not allowed in this context":        "check this line's indentation, or quote a value that holds \": \"",
	"did not find expected key":                             "check this line's indentation",
	"did not find expected '-' indicator":                   "check this line's indentation",
	"found character that cannot start any token":           "quote the value, or replace a tab by spaces",
	"found a tab character that violates indentation":       "indent with spaces",
	"could not find expected ':'":                           "a key needs a colon and a space after it",
	"did not find expected ',' or ']'":                      "a bracket is not closed",
	"did not find expected ',' or '}'":                      "a brace is not closed",
	"found unexpected end of stream":                        "a quote is not closed",
	"found undefined tag handle":                            "quote a value that starts with an exclamation mark",
	"invalid leading UTF-8 octet":                           "save the file as UTF-8",
	"invalid trailing UTF-8 octet":                          "save the file as UTF-8",
	"control characters are not allowed":                    "is it text, saved as UTF-8?",
	"did not find expected alphabetic or numeric character": "quote a value that starts with an asterisk or an ampersand",
}

// syntaxFault says on which line of text, 1-based, a parser's error is. The
// parser itself names the line on which the enclosing list or mapping starts:
// the fault is on the line after the longest beginning that is valid.
func syntaxFault(text []byte, err error) (line int, message string) {
	msg := err.Error()
	line = 1
	if m := yamlPosition.FindStringSubmatch(msg); m != nil {
		msg = msg[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	line = max(line, firstBadLine(text))
	message = "not valid YAML: " + msg
	if hint := hints[msg]; hint != "" {
		message += ": " + hint
	}
	return line, message
}

// searchBytes bounds what firstBadLine reads again and again.
const searchBytes = 4 << 20

// firstBadLine is the line after the longest valid beginning of text, or 1 if
// a search of bounded cost finds none.
func firstBadLine(text []byte) int {
	r := &lineReader{rest: text}
	var n yaml.Node
	if err := yaml.NewDecoder(r).Decode(&n); err == nil {
		return 1
	}
	end := len(text) - len(r.rest)
	for cost := 0; end > 0; {
		if cost += end; cost > searchBytes {
			return 1
		}
		end = bytes.LastIndexByte(text[:end-1], '\n') + 1
		if yaml.Unmarshal(text[:end], &n) == nil {
			return bytes.Count(text[:end], []byte("\n")) + 1
		}
	}
	return 1
}

// lineReader hands out one line at a time, so that a parser that stops has
// read little beyond the fault.
type lineReader struct{ rest []byte }

func (r *lineReader) Read(p []byte) (int, error) {
	line := r.rest
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	if len(line) == 0 {
		return 0, io.EOF
	}
	n := copy(p, line)
	r.rest = r.rest[n:]
	return n, nil
}
