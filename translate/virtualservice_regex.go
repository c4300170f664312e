package translate

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// regexFault says what is wrong with a regex, or nothing. RE2, which Envoy
// uses, and Go have one syntax.
func regexFault(re string) string {
	if re == "" {
		return "is empty; want a regex of RE2's syntax"
	}
	if len(re) > maxRegex {
		return fmt.Sprintf("is a regex of %d bytes; want at most %d", len(re), maxRegex)
	}
	tree, err := syntax.Parse(re, syntax.Perl)
	if err != nil {
		return fmt.Sprintf("is %s: %v; want RE2's syntax, see github.com/google/re2/wiki/Syntax", shown(re), err)
	}
	if n := regexSize(tree); n > maxRegexSize {
		return fmt.Sprintf("is %s, which repeats so much that its program has about %d instructions; want at most %d", shown(re), n, maxRegexSize)
	}
	if _, err := regexp.Compile(re); err != nil {
		return fmt.Sprintf("is %s: %v", shown(re), err)
	}
	return ""
}

// regexSize estimates the instructions of a regex's program without making
// it: repetitions multiply, and a class beyond ASCII takes several bytes.
func regexSize(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(string(re.Rune))
	case syntax.OpCharClass:
		const perWideClass = 8
		if k := len(re.Rune); k > 0 && re.Rune[k-1] > 0x7f {
			n = perWideClass
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		const anyChar = 6
		n = anyChar
	}
	for _, sub := range re.Sub {
		n += regexSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, 1<<30)
}

// substitutionFault says what is wrong with what replaces a match: \0 to \9
// stand for groups of the regex, \\ for a backslash.
func substitutionFault(re, with string) string {
	compiled, err := regexp.Compile(re)
	if err != nil {
		return "" // the regex's own fault is reported
	}
	for i := 0; i < len(with); i++ {
		if with[i] != '\\' {
			continue
		}
		i++
		switch {
		case i == len(with):
			return `ends in a single backslash; write \\`
		case with[i] == '\\':
		case with[i] < '0' || with[i] > '9':
			return fmt.Sprintf(`has \%c; after a backslash want a group's number or a backslash`, with[i])
		case int(with[i]-'0') > compiled.NumSubexp():
			return fmt.Sprintf(`has \%c, but match has %d groups`, with[i], compiled.NumSubexp())
		}
	}
	return ""
}
