package file

import "bytes"

// chunk is the text of one YAML document; line is the 1-based line of the
// file on which the text starts.
type chunk struct {
	text []byte
	line int
}

// mark may stand before a document (YAML 1.2, 5.2).
const mark = "\ufeff"

// split cuts a YAML stream at its document markers, so that a document that
// does not parse leaves the others readable. A line that starts with "---" is
// a marker wherever it stands, also inside a block scalar (YAML 1.2, 9.1.2).
func split(data []byte) []chunk {
	data = bytes.TrimPrefix(data, []byte(mark))
	if bytes.Contains(data, []byte("\n"+mark)) { // of files that were joined
		data = bytes.ReplaceAll(data, []byte("\n"+mark), []byte("\n"))
	}
	var out []chunk
	cur := chunk{line: 1}
	start, line := 0, 1
	flush := func(end int) {
		cur.text = data[start:end]
		if !blank(cur.text) {
			out = append(out, cur)
		}
	}
	for pos := 0; pos < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		if isMarker(data[pos:end]) && pos > start {
			flush(pos)
			start, cur = pos, chunk{line: line}
		}
		pos = end
	}
	flush(len(data))
	return out
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n' || rest[0] == '\r')
}

// blank reports whether a document holds nothing but comments, directives and
// its marker.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("---")) &&
			!bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}
