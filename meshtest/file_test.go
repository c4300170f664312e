package meshtest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// A key that an invariant does not have would widen it in silence.
func TestUnknownKeysOfForall(t *testing.T) {
	const text = `tests:
- name: nothing of pci
  forall:
    from: {workload: front, pod: a}
    to: {namespace: pci, workload: payments}
  expect: {authz: deny}
- name: good
  forall: {from: {namespace: shop}, to: {service: payments, namespace: pci}}
  expect: {authz: deny}
`
	f, problems := meshtest.Parse("x_test.yaml", []byte(text))
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`x_test.yaml:4:29: error: unknown key "forall.from.pod": want one of address, gateway, namespace, plain, workload (UnknownKey)`,
		`x_test.yaml:5:26: error: unknown key "forall.to.workload": want one of namespace, service (UnknownKey)`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(f.Cases) != 1 || f.Cases[0].Name != "good" {
		t.Errorf("the cases that can be read: %d", len(f.Cases))
	}
}

// Merge keys stand for what they merge in; what an object says itself goes before it.
func TestMergeKeys(t *testing.T) {
	const text = `tests:
- &all
  name: all
  from: &web {workload: web, namespace: shop}
  request: &get {url: "http://reviews/", headers: {x-user: qa}}
  expect: {status: 200}
- <<: *all
  name: other
  from: {<<: [*web, {plain: true}], workload: client}
  request: {<<: *get, method: POST}
- {<<: *all, nam: x}
- {<<: 5, name: wrong, from: *web, request: *get, expect: {status: 200}}
- {name: itself, from: *web, request: {url: "http://a/", jwt: &j {a: *j}}, expect: {status: 200}}
`
	f, problems := meshtest.Parse("x_test.yaml", []byte(text))
	var got []string
	for _, c := range f.Cases {
		got = append(got, fmt.Sprintf("%s: %s %s %s %v %d", c.Name, c.From.String(), c.Request.Method, c.Request.URL, c.Request.Headers, *c.Expect.Status))
	}
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		"all: web.shop  http://reviews/ map[x-user:qa] 200",
		"other: plain/shop POST http://reviews/ map[x-user:qa] 200",
		`x_test.yaml:11:14: error: unknown key "nam": did you mean "name"? (UnknownKey)`,
		`x_test.yaml:12:4: error: unknown key "<<": want one of expect, forall, from, name, request, table (UnknownKey)`,
		"x_test.yaml:13:63: error: request.jwt.a: contains itself (InvalidTest)",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Values of another kind than the field has are each told where they stand, and
// in words of YAML; the other tests can be read.
func TestWrongTypes(t *testing.T) {
	const text = `config: {a: b}
tests:
- name: [a]
  from: [web]
  request: {url: {a: b}, headers: [x], http2: maybe, jwt: token}
  expect:
    status: ok
    to: {v1: half, v2: 50}
    not: {retries: 1.5, statis: 1}
    fault: {delayPercent: all}
    mirror: 5
    status: 200
- 5
- name: twice
  name: again
- name: rows
  from: {workload: web}
  request: {url: "http://a/"}
  table:
  - expect: {status: [200]}
  - row
  - expect: {status: 200}
- name: no rows
  table: {a: b}
- name: empty table
  table: []
- name: good
  forall: {from: {namespace: shop}, to: {service: payments, namespace: pci}}
  expect: {authz: deny}
`
	f, problems := meshtest.Parse("x_test.yaml", []byte(text))
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`x_test.yaml:1:9: error: config: is an object: want a list (InvalidTest)`,
		`x_test.yaml:3:9: error: name: is a list: want text (InvalidTest)`,
		`x_test.yaml:4:9: error: from: is a list: want an object with address, gateway, namespace, plain, workload (InvalidTest)`,
		`x_test.yaml:5:18: error: request.url: is an object: want text (InvalidTest)`,
		`x_test.yaml:5:35: error: request.headers: is a list: want an object of text by name (InvalidTest)`,
		`x_test.yaml:5:47: error: request.http2: is the text "maybe": want true or false (InvalidTest)`,
		`x_test.yaml:5:59: error: request.jwt: is the text "token": want an object (InvalidTest)`,
		`x_test.yaml:12:5: error: expect.status: stands twice, first on line 7 (InvalidTest)`,
		`x_test.yaml:7:13: error: expect.status: is the text "ok": want a whole number (InvalidTest)`,
		`x_test.yaml:8:14: error: expect.to.v1: is the text "half": want a number (InvalidTest)`,
		`x_test.yaml:9:25: error: unknown key "expect.not.statis": did you mean "status"? (UnknownKey)`,
		`x_test.yaml:9:20: error: expect.not.retries: is 1.5: want a whole number (InvalidTest)`,
		`x_test.yaml:10:27: error: expect.fault.delayPercent: is the text "all": want a number (InvalidTest)`,
		`x_test.yaml:11:13: error: expect.mirror: is 5: want an object of percentages by name (InvalidTest)`,
		`x_test.yaml:13:3: error: tests: has 5 in it: want tests with name, from, request and expect (InvalidTest)`,
		`x_test.yaml:15:3: error: name: stands twice, first on line 14 (InvalidTest)`,
		`x_test.yaml:20:22: error: table.expect.status: is a list: want a whole number (InvalidTest)`,
		`x_test.yaml:21:5: error: table: has the text "row" in it: want rows with from, request and expect (InvalidTest)`,
		`x_test.yaml:24:10: error: table: is an object: want a list of rows with from, request and expect (InvalidTest)`,
		`x_test.yaml:26:10: error: table: is an empty list: want a list of rows with from, request and expect (InvalidTest)`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var names []string
	for _, c := range f.Cases {
		names = append(names, c.Name)
	}
	if got := strings.Join(names, ", "); got != "rows/3, good" {
		t.Errorf("the cases that can be read: %s", got)
	}
}

func TestWrongTypesOfValidator(t *testing.T) {
	const text = `testCases:
- description: wrong
  wantMatch: perhaps
  request: {authority: a.example.com, headers: {a: [b]}}
  route: {destination: b}
- description: good
  wantMatch: true
  request: {authority: [a.example.com]}
  route: [{destination: {host: b}, headers: {}}]
`
	f, problems := meshtest.Parse("x_test.yaml", []byte(text))
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`x_test.yaml:3:14: error: wantMatch: is the text "perhaps": want true or false (InvalidTest)`,
		`x_test.yaml:4:24: error: request.authority: is the text "a.example.com": want a list (InvalidTest)`,
		`x_test.yaml:4:52: error: request.headers.a: is a list: want text (InvalidTest)`,
		`x_test.yaml:5:10: error: route: is an object: want a list (InvalidTest)`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(f.Cases) != 1 {
		t.Errorf("the cases that can be read: %d", len(f.Cases))
	}
}
