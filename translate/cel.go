package translate

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/parser"
)

// celFunctions are those that Envoy 1.40 has, with how many arguments they
// take, the receiver counted. One that it has not, or loops such as exists(),
// would cost the proxy the whole listener.
var celFunctions = map[string][]int{
	"size": {1}, "type": {1}, "dyn": {1},
	"bool": {1}, "bytes": {1}, "double": {1}, "int": {1}, "uint": {1}, "timestamp": {1}, "duration": {1},
	"matches": {2}, "contains": {2}, "startsWith": {2}, "endsWith": {2},
	"getFullYear": {1, 2}, "getMonth": {1, 2}, "getDate": {1, 2}, "getDayOfMonth": {1, 2}, "getDayOfWeek": {1, 2},
	"getDayOfYear": {1, 2}, "getHours": {1, 2}, "getMinutes": {1, 2}, "getSeconds": {1, 2}, "getMilliseconds": {1, 2},
}

// celStringFunctions need memory in proportion to what they are given, and
// Envoy has them only where the configuration asks for them.
var celStringFunctions = map[string][]int{
	"string": {1}, "lowerAscii": {1}, "upperAscii": {1}, "trim": {1}, "reverse": {1}, "charAt": {2},
	"split": {2, 3}, "join": {1, 2}, "replace": {3, 4}, "substring": {2, 3}, "indexOf": {2, 3}, "lastIndexOf": {2, 3}, "format": {2},
}

// celRoots are the attributes that Envoy knows. Others have no value.
var celRoots = map[string]bool{
	"request": true, "response": true, "connection": true, "upstream": true, "source": true, "destination": true,
	"metadata": true, "filter_state": true, "upstream_filter_state": true, "xds": true,
}

const longestExpression = 4096

// celExpression is a parsed CEL expression.
type celExpression struct {
	tree *ast.AST
	// fault is why Envoy cannot have it, doubt what of it has no value.
	fault, doubt string
	// strings are the functions in it that celStringFunctions names, and
	// concatenations of strings.
	strings []string
}

// parseCEL reads an expression as Envoy does.
func parseCEL(text string) *celExpression {
	out := &celExpression{}
	if len(text) > longestExpression {
		out.fault = fmt.Sprintf("is longer than %d characters", longestExpression)
		return out
	}
	p, err := parser.NewParser(parser.Macros(parser.HasMacro), parser.MaxRecursionDepth(64))
	if err != nil {
		out.fault = err.Error()
		return out
	}
	tree, errs := p.Parse(common.NewTextSource(text))
	if list := errs.GetErrors(); len(list) > 0 {
		out.fault = "is no CEL expression: " + list[0].Message
		return out
	}
	out.tree = tree
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(out.visit))
	return out
}

func (x *celExpression) visit(e ast.Expr) {
	switch e.Kind() {
	case ast.CallKind:
		x.call(e.AsCall())
	case ast.IdentKind:
		if name := e.AsIdent(); !celRoots[name] && !celTypes[name] && x.doubt == "" {
			x.doubt = "names " + shown(name) + ", which Envoy does not know"
		}
	case ast.StructKind:
		x.blame("builds a message, which Envoy cannot")
	}
}

// celTypes are names of types, to compare with.
var celTypes = map[string]bool{
	"int": true, "uint": true, "double": true, "bool": true, "string": true, "bytes": true, "list": true, "map": true, "null_type": true, "type": true,
}

func (x *celExpression) blame(format string, args ...any) {
	if x.fault == "" {
		x.fault = fmt.Sprintf(format, args...)
	}
}

func (x *celExpression) call(c ast.CallExpr) {
	name, args := c.FunctionName(), len(c.Args())
	if c.IsMemberFunction() {
		args++
	}
	if _, ok := operators.FindReverse(name); ok {
		if name == operators.Add && joinsStrings(c) {
			x.strings = append(x.strings, "+ of strings")
		}
		return
	}
	if name == operators.Conditional || name == operators.Index {
		return
	}
	takes, ok := celFunctions[name]
	if !ok {
		if takes, ok = celStringFunctions[name]; ok {
			x.strings = append(x.strings, name+"()")
		}
	}
	switch {
	case !ok:
		x.blame("calls %s(), which Envoy does not have", name)
	case !intIn(takes, args):
		x.blame("calls %s() with the wrong number of arguments", name)
	case name == "matches":
		x.pattern(c.Args()[len(c.Args())-1])
	}
}

func intIn(list []int, n int) bool {
	for _, have := range list {
		if have == n {
			return true
		}
	}
	return false
}

func (x *celExpression) pattern(e ast.Expr) {
	if text, ok := celString(e); ok {
		if _, err := regexp.Compile(text); err != nil {
			x.blame("has the regular expression %s: %v", shown(text), err)
		}
	}
}

func celString(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().Value().(string)
	return s, ok
}

// joinsStrings reports whether a sum is plainly one of strings: some part is a
// literal or made by string().
func joinsStrings(c ast.CallExpr) bool {
	for _, a := range c.Args() {
		if isText(a) {
			return true
		}
	}
	return false
}

func isText(e ast.Expr) bool {
	if _, ok := celString(e); ok {
		return true
	}
	if e.Kind() != ast.CallKind {
		return false
	}
	c := e.AsCall()
	return c.FunctionName() == "string" || c.FunctionName() == operators.Add && joinsStrings(c)
}

// format is the expression as an access log's format that gives its value.
// Formats of the log that metrics are made of have no string functions, so
// string() at the end of evaluation is left to the format, which makes text of
// everything, and strings are joined by it.
func (x *celExpression) format() (format, fault string) {
	if x.fault != "" {
		return "", x.fault
	}
	return x.formatOf(x.tree.Expr())
}

func (x *celExpression) formatOf(e ast.Expr) (format, fault string) {
	if text, ok := celString(e); ok {
		return strings.ReplaceAll(text, "%", "%%"), ""
	}
	if e.Kind() == ast.CallKind {
		switch c := e.AsCall(); {
		case c.FunctionName() == "string" && len(c.Args()) == 1:
			return x.formatOf(c.Args()[0])
		case c.FunctionName() == operators.Add && joinsStrings(c):
			left, fault := x.formatOf(c.Args()[0])
			if fault != "" {
				return "", fault
			}
			right, fault := x.formatOf(c.Args()[1])
			return left + right, fault
		}
	}
	text, err := parser.Unparse(e, x.tree.SourceInfo())
	if err != nil {
		return "", err.Error()
	}
	if part := parseCEL(text); part.fault != "" || len(part.strings) > 0 {
		return "", "needs " + strings.Join(part.strings, ", ") + ", which Envoy has in filters and formats of logs, but not in what metrics are made of"
	}
	if strings.Contains(text, ")%") || strings.Contains(text, "\n") {
		return "", "cannot stand in a log's format"
	}
	return "%CEL(" + text + ")%", ""
}
