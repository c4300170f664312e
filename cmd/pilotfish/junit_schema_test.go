package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// element is what Jenkins' schema of JUnit reports (junit.xsd of its xunit
// plugin, also that of Maven's Surefire in these parts) says of one element.
type element struct {
	required, optional []string
	children           []string
	numbers            []string // attributes that are numbers, not below 0
}

var junitSchema = map[string]element{
	"testsuites": {
		optional: []string{"name", "time", "tests", "failures", "disabled", "errors"}, children: []string{"testsuite"},
		numbers: []string{"time", "tests", "failures", "disabled", "errors"},
	},
	"testsuite": {
		required: []string{"name", "tests"},
		optional: []string{"failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package", "file"},
		children: []string{"properties", "testcase", "system-out", "system-err"}, numbers: []string{"tests", "failures", "errors", "time", "skipped"},
	},
	"testcase": {
		required: []string{"name", "classname"}, optional: []string{"assertions", "time", "status", "file", "line"},
		children: []string{"skipped", "error", "failure", "system-out", "system-err"}, numbers: []string{"time", "line"},
	},
	"failure": {optional: []string{"message", "type"}},
	"error":   {optional: []string{"message", "type"}},
	"skipped": {optional: []string{"message", "type"}},
}

// junitFault is what of a report the schema does not take, or that its counts
// are not those of its cases.
func junitFault(report string) error {
	d := xml.NewDecoder(strings.NewReader(report))
	var path []string
	counted, said := map[string]int{}, map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch x := token.(type) {
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.StartElement:
			name := x.Name.Local
			switch {
			case len(path) == 0 && name != "testsuites":
				return fmt.Errorf("the root is %s", name)
			case len(path) > 0 && !slices.Contains(junitSchema[path[len(path)-1]].children, name):
				return fmt.Errorf("%s in %s", name, path[len(path)-1])
			}
			if err := junitSchema[name].attributes(name, x.Attr); err != nil {
				return err
			}
			counted[name]++
			if name == "testsuites" {
				for _, a := range x.Attr {
					said[a.Name.Local], _ = strconv.Atoi(a.Value)
				}
			}
			path = append(path, name)
		}
	}
	for attribute, of := range map[string]string{"tests": "testcase", "failures": "failure", "errors": "error"} {
		if said[attribute] != counted[of] {
			return fmt.Errorf("%s says %d, there are %d", attribute, said[attribute], counted[of])
		}
	}
	return nil
}

func (e element) attributes(name string, list []xml.Attr) error {
	has := map[string]bool{}
	for _, a := range list {
		has[a.Name.Local] = true
		if !slices.Contains(e.required, a.Name.Local) && !slices.Contains(e.optional, a.Name.Local) {
			return fmt.Errorf("%s has attribute %s", name, a.Name.Local)
		}
		if n, err := strconv.ParseFloat(a.Value, 64); slices.Contains(e.numbers, a.Name.Local) && (err != nil || n < 0) {
			return fmt.Errorf("%s of %s is %q", a.Name.Local, name, a.Value)
		}
	}
	for _, r := range e.required {
		if !has[r] {
			return fmt.Errorf("%s has no %s", name, r)
		}
	}
	return nil
}

// JUnit reports are what readers of them take, and count right.
func TestJUnitSchema(t *testing.T) {
	var last string
	for _, args := range [][]string{
		{"lint", "testdata/lint"}, {"lint", "testdata/lint", "--all"}, {"lint", "../../examples/bookstore"}, {"lint", "testdata/bad-input/broken"},
		{"test", "testdata/tests"}, {"test", "testdata/tests-broken"}, {"test", "testdata/validator"}, {"test", "testdata/shop"},
		{"diff", shop, changed(t, "timeout: 3s", "timeout: 1s")}, {"diff", shop, shop},
	} {
		_, stdout, _ := run(append(args, "-o", "junit")...)
		if err := junitFault(stdout); err != nil {
			t.Errorf("%v: %v\n%s", args, err, stdout)
		}
		if strings.Contains(stdout, "<failure") {
			last = stdout
		}
	}
	for _, change := range [][2]string{{"<testcase ", "<case "}, {` classname="`, ` class="`}, {`tests="`, `tests="1`}, {`time="`, `time="x`}, {"<failure", "<flop"}} {
		wrong := strings.Replace(last, change[0], change[1], 1)
		if wrong == last || junitFault(wrong) == nil {
			t.Errorf("%s is not seen", change[1])
		}
	}
}
