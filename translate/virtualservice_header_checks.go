package translate

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

func itoa(n int) string { return strconv.Itoa(n) }

// checkHeaders tests the names of headers to change. Of the internal ones
// only the request's Host can be set.
func checkHeaders(r *Report, m proto.Message) {
	h := m.(*networking.Headers)
	for _, side := range []struct {
		field string
		ops   *networking.Headers_HeaderOperations
	}{{"request", h.GetRequest()}, {"response", h.GetResponse()}} {
		for _, list := range []struct {
			field string
			names []string
			host  bool
		}{
			{"set", sortedKeys(side.ops.GetSet()), side.field == "request"},
			{"add", sortedKeys(side.ops.GetAdd()), side.field == "request"},
			{"remove", side.ops.GetRemove(), false},
		} {
			for _, name := range list.names {
				if fault := changedHeaderFault(name, list.host); fault != "" {
					r.ErrorAt(side.field+"."+list.field, "NameInvalid", "has %s, %s", shown(name), fault)
				}
			}
		}
	}
}

func changedHeaderFault(name string, host bool) string {
	switch {
	case host && isAuthorityHeader(name):
		return ""
	case isInternalHeader(name):
		return "which Envoy lets no route change; the request's Host can be set, the path be rewritten"
	case !headerName.MatchString(name):
		return "which is no header name"
	}
	return ""
}

// checkHeaderText is for values that become part of a header.
func checkHeaderText(r *Report, v protoreflect.Value) {
	if strings.ContainsAny(v.String(), "\x00\r\n") {
		r.Errorf("ValueInvalid", "is %s; a header cannot carry line breaks", shown(v.String()))
	}
}

// checkHeaderValue tests a header's value with Envoy's %VARIABLES% in it.
func checkHeaderValue(r *Report, v protoreflect.Value) {
	value := v.String()
	for i := 0; i < len(value); i++ {
		if c := value[i]; c != '\t' && c < 0x20 || c == 0x7f {
			r.Errorf("ValueInvalid", "is %s; a header cannot carry control characters", shown(value))
			return
		}
	}
	if fault := variablesFault(value); fault != "" {
		r.Errorf("ValueInvalid", "is %s, %s", shown(value), fault)
	}
}

// variablesFault says what is wrong with the percent signs of a header value:
// %% is one, %NAME% and %NAME(arguments):length% stand for something. Envoy
// refuses the whole table of routes, or listener, for one that it does not know;
// more are those that it knows in this place only.
func variablesFault(value string, more ...string) string {
	for {
		i := strings.IndexByte(value, '%')
		if i < 0 {
			return ""
		}
		value = value[i+1:]
		if strings.HasPrefix(value, "%") {
			value = value[1:]
			continue
		}
		name := value[:len(value)-len(strings.TrimLeft(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"))]
		if name == "" {
			return "where a percent sign stands alone; write %% for one"
		}
		value = value[len(name):]
		if fault := variableFault(name, value, more); fault != "" {
			return fault
		}
		if strings.HasPrefix(value, "(") {
			end := closingParenthesis(value)
			if name == "CEL" {
				end = strings.Index(value, ")%")
			}
			if end < 0 {
				return "where a variable's arguments do not end"
			}
			if fault := celFault(name, value[1:end], len(more) > 0); fault != "" {
				return "where " + fault
			}
			value = value[end+1:]
		}
		if strings.HasPrefix(value, ":") {
			value = strings.TrimLeft(value[1:], "0123456789")
		}
		if !strings.HasPrefix(value, "%") {
			return "where a variable does not end in %; write %% for a percent sign"
		}
		value = value[1:]
	}
}

// celFault says what is wrong with the expression of a variable CEL, in a log
// or elsewhere.
func celFault(name, expression string, log bool) string {
	if name != "CEL" {
		return ""
	}
	x := parseCEL(expression)
	switch {
	case x.fault != "":
		return "the expression " + shown(expression) + " " + x.fault
	case len(x.strings) > 0 && !log:
		return "the expression " + shown(expression) + " needs " + x.strings[0] + ", which Envoy has in filters and formats of logs only"
	}
	return ""
}

// variableFault says what is wrong with one variable, before rest.
func variableFault(name, rest string, more []string) string {
	arguments, known := variables[name]
	switch {
	case !known && !slices.Contains(more, name):
		fault := "where Envoy has no variable " + name
		if n := nearest(name, sortedKeys(variables), ""); n != "" {
			fault += "; did you mean " + n + "?"
		}
		return fault
	case arguments && !strings.HasPrefix(rest, "("):
		return "where the variable " + name + " wants arguments in parentheses"
	}
	return ""
}

// closingParenthesis is the end of arguments; quotes and backslashes hide
// parentheses.
func closingParenthesis(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case ')':
			if !quoted {
				return i
			}
		}
	}
	return -1
}

// nearest is the candidate most like a word, or otherwise if none is like it.
func nearest(word string, candidates []string, otherwise string) string {
	best, least := otherwise, 1+len(word)/2
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), strings.ToLower(c), least); d < least {
			best, least = c, d
		}
	}
	return best
}

// editDistance is the number of letters to add, drop or change between two
// words, or limit if it is not below that.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
			least = min(least, cost)
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}
