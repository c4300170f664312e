package report_test

import (
	"bytes"
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard"
	"github.com/pilotfish-mesh/pilotfish/dashboard/browsertest"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

var screenshots = flag.String("screenshots", "", "the folder to write pictures to")

var bookstore, _ = filepath.Abs("../../examples/bookstore") // also after a test changes the folder

// load reads the bookstore, with one text in its files replaced by another.
func load(t *testing.T, old, replacement string) *config.Mesh {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(bookstore)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "routing.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte(old), []byte(replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	m, err := inputs.Load(context.Background(), inputs.Options{Paths: []string{"."}, Validate: translate.Check})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func cases(t *testing.T) *report.Tests {
	t.Helper()
	b, err := os.ReadFile("bookstore_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, problems := meshtest.Parse("bookstore_test.yaml", b)
	return &report.Tests{Cases: f.Cases, Problems: problems}
}

// live is the page of the bookstore, after a change of weights.
func live(t *testing.T) string {
	t.Helper()
	before := load(t, "", "")
	after := load(t, "weight: 90", "weight: 60")
	var now atomic.Pointer[config.Mesh]
	now.Store(before)
	l := report.NewLive("bookstore", now.Load, func() *report.Tests { return cases(t) })
	mux := http.NewServeMux()
	mux.Handle("/config/", http.StripPrefix("/config", l))
	s := httptest.NewServer(dashboard.Guard(nil, mux))
	t.Cleanup(s.Close)
	resp, err := http.Get(s.URL + "/config/") // the state before is seen
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	now.Store(after)
	return s.URL + "/config/"
}

var looks = map[string]browsertest.Look{
	"desktop": {Width: 1280, Height: 900}, "phone": {Width: 390, Height: 844, Scale: 2, Phone: true}, "phone-dark": {Width: 390, Height: 844, Scale: 2, Phone: true, Dark: true},
}

func check(t *testing.T, name string, tab *browsertest.Tab) {
	t.Helper()
	if n := tab.Overflow(); n > 0 {
		t.Errorf("%s is %d pixels wider than the window", name, n)
	}
	if c := tab.Complaints(); len(c) > 0 {
		t.Errorf("%s: the browser complains: %q", name, c)
	}
	if f := tab.Foreign(); len(f) > 0 {
		t.Errorf("%s loads %q", name, f)
	}
	if low := browsertest.Value[string](tab, lowContrast); low != "" {
		t.Errorf("%s: text is hard to read: %s", name, low)
	}
	if *screenshots != "" {
		if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), tab.Screenshot(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// lowContrast names a text whose contrast to its ground is below 4.5:1 (WCAG
// 2.2, 1.4.3).
const lowContrast = `(() => {
  const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e).slice(0, 3));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) return e.textContent.trim().slice(0, 60) + ' ' + ratio.toFixed(2);
  }
  return '';
})()`

// The page of a running mesh: a request is asked about with the keyboard, and
// the last change, findings, coverage and who may call whom are there.
func TestLive(t *testing.T) {
	url := live(t)
	browser := browsertest.Start(t)
	for name, look := range looks {
		tab := browser.Open(t, url, look)
		for _, text := range []string{
			"The last change, at", "VirtualService shop/reviews", "85.71 % shop/reviews-v1", "Nothing found.", "Coverage: 100 % of 6",
			"reviews/QA sees v2", "Who may call whom", "payments.pci:80",
		} {
			tab.UntilShown(text)
		}
		if got := browsertest.Value[string](tab, `[...document.querySelectorAll('.calls tbody tr')].find(r => r.innerText.startsWith('shop/front')).querySelector('.denied').innerText`); got != "denied" {
			t.Errorf("the front's calls: %q", got)
		}
		drawn(t, name, tab)
		tab.Do(chromedp.SetValue(chromedp.CSS("#from"), "shop/front"))
		tab.Type("#url", "http://payments.pci/charge")
		tab.UntilShown("403: RBAC: no ALLOW policy matches")
		tab.UntilShown("security.yaml:7")
		check(t, "live-"+name, tab)
		tab.Do(chromedp.SetValue(chromedp.CSS("#from"), "shop/fromt"))
		tab.Type("#url", "http://reviews/")
		tab.UntilShown(`no workload "shop/fromt" in the configuration: did you mean "shop/front"?`)
		tab.Do(chromedp.SetValue(chromedp.CSS("#from"), "shop/front"), chromedp.SetValue(chromedp.CSS("#headers"), "x-user"))
		tab.Type("#url", "http://reviews/")
		tab.UntilShown(`header "x-user": want "name: value"`)
	}
}

// A report is one file: nothing else is loaded, and it fits every screen.
func TestOneFile(t *testing.T) {
	before := simulate.NewWorld(load(t, "", ""))
	after := before.With(load(t, "weight: 90", "weight: 60"))
	a, err := after.Ask(&simulate.Query{From: "shop/front", URL: "http://reviews/api", Header: simulate.Header{{Name: "x-user", Value: "qa"}}})
	if err != nil {
		t.Fatal(err)
	}
	shared, err := after.Ask(&simulate.Query{From: "shop/front", URL: "http://reviews/"})
	if err != nil {
		t.Fatal(err)
	}
	tests := cases(t)
	tests.Results = meshtest.Run(meshtest.Simulator{World: after}, after, tests.Cases[:3], nil)
	tests.Coverage = meshtest.Cover(after.Mesh, tests.Results)
	for _, name := range tests.Coverage.Files() {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Annotated = append(tests.Annotated, report.Annotated{File: name, Lines: tests.Coverage.Annotate(name, 0, string(text))})
	}
	finding := meshtest.Finding{Problem: config.Problem{Severity: config.Warning, Code: "RouteShadowed", Message: "<script>alert(1)</script>" + strings.Repeat("long", 60), File: "a.yaml", Line: 3}}
	dir := t.TempDir()
	for name, p := range map[string]*report.Page{
		"ask": {Answer: report.AnswerOf(a, true)}, "ask-shared": {Answer: report.AnswerOf(shared, false)}, "diff": {Diff: &report.Diff{Difference: meshtest.Diff(before, after)}}, "test": {Tests: tests},
		"calls": {Calls: everyKind()}, "many-calls": {Calls: made(20, 2)},
		"lint": {Findings: &report.Findings{List: []meshtest.Finding{finding}}}, "nothing": {Findings: &report.Findings{}, Diff: &report.Diff{Difference: &meshtest.Difference{}}, Calls: &report.Calls{}},
	} {
		p.Title = name
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "<script") {
			t.Errorf("%s: text became markup", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".html"), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	browser := browsertest.Start(t)
	for _, name := range []string{"ask", "ask-shared", "diff", "test", "lint", "calls", "many-calls", "nothing"} {
		for at, look := range looks {
			tab := browser.Open(t, s.URL+"/"+name+".html", look)
			tab.Do(chromedp.Evaluate[chromedp.Void](`document.querySelectorAll('details').forEach(d => d.open = true)`))
			check(t, name+"-"+at, tab)
		}
	}
}

// A mesh that has not changed is told to be so once.
func TestNothingChangedOnce(t *testing.T) {
	for _, c := range []struct {
		diff report.Diff
		want string
	}{
		{report.Diff{None: true, Note: "Nothing has changed."}, "Nothing has changed."},
		{report.Diff{Note: "The last change."}, "Nothing changes"},
	} {
		c.diff.Difference = &meshtest.Difference{}
		var b strings.Builder
		if err := (&report.Page{Title: "mesh", Diff: &c.diff}).Write(&b); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "Nothing "); n != 1 || !strings.Contains(b.String(), c.want) {
			t.Errorf("%s: told %d times", c.diff.Note, n)
		}
	}
}
