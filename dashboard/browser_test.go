package dashboard_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard"
	"github.com/pilotfish-mesh/pilotfish/dashboard/browsertest"
)

// lively returns a world with two minutes of load and, until the test ends, a
// new second every second.
func lively(t *testing.T) *world {
	w := newWorld(t)
	now := time.Now()
	for i := range 90 {
		w.load(now.Add(time.Duration(i-90)*time.Second), 30)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case at := <-ticker.C:
				vs, _ := w.Mesh().VirtualServices.Get("default", "myapp")
				w.load(at, vs.Spec.GetHttp()[0].GetRoute()[1].GetWeight())
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return w
}

// troubled adds a rejected resource and problems of every severity.
func (w *world) troubled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	bad := config.Problem{
		Object:   config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "checkout"},
		Field:    "spec.http[0].match[0].uri.regex",
		Severity: config.Error, Code: "RejectedByProxy", File: w.path, Line: 42,
		Message: "Error adding/updating listener(s) 0.0.0.0_8080: no argument for repetition operator: *",
	}
	w.proxies[1].Syncs[3] = dashboard.Sync{Type: "RDS", Status: dashboard.Rejected, Resources: 2, Rejection: &bad}
	w.proxies[2].Syncs[1].Status = dashboard.Stale
	w.proxies[2].Syncs[3] = dashboard.Sync{Type: "RDS", Status: dashboard.NotSent, Resources: -1}
	w.problems = []config.Problem{
		{Object: config.Key{Kind: "DestinationRule", Namespace: "default", Name: "myapp"}, Field: "spec.subsets[1]", Severity: config.Warning, Code: "SubsetSelectsNothing", File: w.path, Line: 23, Message: "subset v2 has the labels version=v2, which no workload of host myapp.default.svc.cluster.local has: requests to it get 503"},
		bad,
	}
}

// sound fails the test for anything that a page must never do.
func sound(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	if c := tab.Complaints(); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
	}
	if f := tab.Foreign(); len(f) > 0 {
		t.Errorf("requests to other origins: %v", f)
	}
	if px := tab.Overflow(); px > 0 {
		t.Errorf("the page is %d px wider than the window", px)
	}
}

const (
	sliderV2 = `input[type=range][aria-label="Weight of v2 in percent"]`
	numberV2 = `input[type=number][aria-label="Weight of v2, number"]`
)

func TestPageInChromium(t *testing.T) {
	browser := browsertest.Start(t)
	t.Run("shows what is configured and observed", func(t *testing.T) {
		w := lively(t)
		url, _ := site(t, w.options())
		tab := browser.Open(t, url, browsertest.Desktop)
		tab.UntilShown("observed, 5 s average")
		tab.Until(`/\d\d\.\d % observed/.test(document.querySelector(".numbers").innerText)`)
		for _, text := range []string{"examples/canary", "VirtualService default/myapp", "myapp.yaml:9", "in sync", "SYNCED", "Nothing has changed since the start"} {
			tab.UntilShown(text)
		}
		tab.Until(`document.querySelector(".tile").innerText.replace(/\s+/g, " ").includes("Requests 120 req/s")`)
		// The plot is alive: lines are drawn in both versions' colours.
		tab.Until(`(() => {
			const c = document.querySelector(".plot canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
			const has = (r, g, b) => { for (let i = 0; i < d.length; i += 4) if (d[i] === r && d[i+1] === g && d[i+2] === b) return true; return false; };
			return has(0x00, 0x67, 0xb8) && has(0xd5, 0x5e, 0x00);
		})()`)
		sound(t, tab)
	})
	t.Run("moves a weight", func(t *testing.T) { moveWeight(t, lively(t), browser) })
	t.Run("keyboard and number", func(t *testing.T) {
		w := lively(t)
		url, _ := site(t, w.options())
		tab := browser.Open(t, url, browsertest.Desktop)
		tab.UntilShown("% observed")
		// A burst of keys is one change of the file.
		tab.Do(chromedp.Focus(chromedp.CSS(sliderV2)), chromedp.KeyEvent(kb.ArrowRight+kb.ArrowRight+kb.ArrowRight))
		tab.UntilShown("v1 70 → 67 %, v2 30 → 33 %")
		tab.Type(numberV2, "40")
		tab.UntilShown("v2 33 → 40 %")
		tab.Until(`document.activeElement.matches('` + numberV2 + `')`)
		if !strings.Contains(w.text(), "weight: 40   # the new one") {
			t.Errorf("file:\n%s", w.text())
		}
		// A choice can be taken back before it is written.
		tab.Do(chromedp.Focus(chromedp.CSS(sliderV2)), chromedp.KeyEvent(kb.End+kb.Escape))
		tab.Until(`document.querySelector('` + sliderV2 + `').value === "40"`)
		// A number out of range is not taken.
		tab.Type(numberV2, "400")
		tab.Until(`document.querySelector('` + sliderV2 + `').value === "40"`)
		if n := len(w.Changes()); n != 2 {
			t.Errorf("the file was changed %d times, want 2", n)
		}
		sound(t, tab)
	})
	t.Run("says why a weight cannot be moved", func(t *testing.T) {
		w := lively(t)
		url, _ := site(t, w.options())
		tab := browser.Open(t, url, browsertest.Desktop)
		tab.UntilShown("% observed")
		if err := writeFile(w.path, strings.Replace(meshYAML, "weight: 70", "weight: &w 70", 1)); err != nil {
			t.Fatal(err)
		}
		tab.Do(chromedp.Focus(chromedp.CSS(sliderV2)), chromedp.KeyEvent(kb.Home))
		tab.UntilShown("Not changed. myapp.yaml:11: the weights lie under the anchor &w")
		tab.Until(`document.querySelector('` + sliderV2 + `').value === "30"`)
		// The refusal's status is the one thing that the browser logs.
		if c := tab.Complaints(); len(c) != 1 || !strings.Contains(c[0], "422") {
			t.Errorf("the browser complains: %q", c)
		}
	})
	t.Run("shows problems with file and line", func(t *testing.T) {
		w := lively(t)
		url, _ := site(t, w.options())
		tab := browser.Open(t, url, browsertest.Desktop)
		tab.UntilShown("Everything that is configured is in effect")
		w.troubled()
		for _, text := range []string{"myapp.yaml:23", "subset v2 has the labels", "myapp.yaml:42", "RDS refused: Error adding/updating listener(s)", "VirtualService default/checkout", "STALE", "NOT SENT", "ERROR", "1 error, 1 warning"} {
			tab.UntilShown(text)
		}
		sound(t, tab)
	})
	t.Run("fits", func(t *testing.T) { fits(t, browser) })
	t.Run("follows and keeps the theme", func(t *testing.T) {
		url, _ := site(t, lively(t).options())
		tab := browser.Open(t, url, browsertest.Desktop.InDark())
		tab.UntilShown("% observed")
		ground := func() string {
			return browsertest.Value[string](tab, `getComputedStyle(document.body).backgroundColor`)
		}
		dark := ground()
		tab.Do(chromedp.Click(chromedp.CSS(`button[aria-label="Switch to the light theme"]`)))
		tab.Until(`document.querySelector('button[aria-label="Switch to the dark theme"]') !== null`)
		light := ground()
		tab.Do(chromedp.Reload())
		tab.UntilShown("% observed")
		if dark == light || ground() != light {
			t.Errorf("ground dark %s, light %s, after a reload %s", dark, light, ground())
		}
		sound(t, tab)
	})
	t.Run("says when the server is gone, and comes back", func(t *testing.T) { reconnects(t, browser) })
	t.Run("among many routes", func(t *testing.T) {
		w := lively(t)
		text := meshYAML
		for i := range 20 {
			text += fmt.Sprintf("---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop-%02d}\nspec:\n  hosts: [shop-%02d]\n"+
				"  http: [{route: [{destination: {host: shop, subset: a}, weight: 1}, {destination: {host: shop, subset: b}, weight: 2}]}]\n", i, i)
		}
		w.write(text)
		url, _ := site(t, w.options())
		tab := browser.Open(t, url, browsertest.Phone)
		tab.UntilShown("6 of 21 routes")
		tab.Do(chromedp.SendKeys(chromedp.CSS("input[type=search]"), "shop-17"))
		tab.UntilShown("1 of 1 routes")
		tab.UntilShown("VirtualService default/shop-17")
		tab.Until(`document.activeElement.matches("input[type=search]")`)
		// A file that says it in relative weights can be moved too.
		tab.Do(chromedp.Focus(chromedp.CSS(`input[type=range][aria-label="Weight of b in percent"]`)), chromedp.KeyEvent(kb.End))
		tab.UntilShown("a 33 → 0 %, b 67 → 100 %")
		sound(t, tab)
	})
	t.Run("two pages agree", func(t *testing.T) {
		w := lively(t)
		url, _ := site(t, w.options())
		one, two := browser.Open(t, url, browsertest.Desktop), browser.Open(t, url, browsertest.Phone)
		one.UntilShown("% observed")
		two.UntilShown("% observed")
		one.Do(chromedp.Focus(chromedp.CSS(sliderV2)), chromedp.KeyEvent(kb.End))
		two.Until(`document.querySelector('` + numberV2 + `').value === "100"`)
		two.Do(chromedp.Focus(chromedp.CSS(sliderV2)), chromedp.KeyEvent(kb.Home))
		one.Until(`document.querySelector('` + numberV2 + `').value === "0"`)
		sound(t, one)
		sound(t, two)
	})
	t.Run("without measurements", func(t *testing.T) {
		w := newWorld(t)
		o := w.options()
		o.Traffic = nil
		url, _ := site(t, o)
		tab := browser.Open(t, url, browsertest.Desktop)
		tab.UntilShown("Nothing measures the traffic")
		drag(tab, sliderV2, 30, 60)
		tab.UntilShown("v2 30 → 60 %")
		shoot(t, tab, "unmeasured")
		sound(t, tab)
	})
	t.Run("without routes, proxies and traffic", func(t *testing.T) {
		w := newWorld(t)
		w.mu.Lock()
		w.proxies = nil
		w.mu.Unlock()
		o := w.options()
		o.Meshes = meshes(func() *config.Mesh { return config.NewBuilder(nil).Mesh() })
		o.Traffic = nil
		url, _ := site(t, o)
		tab := browser.Open(t, url, browsertest.Phone)
		tab.UntilShown("No traffic is split")
		tab.UntilShown("No proxy is connected")
		sound(t, tab)
	})
}

func moveWeight(t *testing.T, w *world, browser *browsertest.Browser) {
	url, _ := site(t, w.options())
	tab := browser.Open(t, url, browsertest.Desktop)
	tab.UntilShown("% observed")
	drag(tab, sliderV2, 30, 80)
	tab.UntilShown("v1 70 → 20 %, v2 30 → 80 %: written to myapp.yaml. All 3 proxies that it concerns have it after 41 ms.")
	want := strings.NewReplacer("weight: 70", "weight: 20", "weight: 30", "weight: 80").Replace(meshYAML)
	if w.text() != want {
		t.Errorf("file:\n%s\nwant:\n%s", w.text(), want)
	}
	tab.Until(`document.querySelector('` + numberV2 + `').value === "80"`)
	// The load follows, and the page sees it.
	tab.Until(`parseFloat(document.querySelectorAll(".numbers b")[0].innerText) < 40`)
	tab.Do(chromedp.Click(chromedp.CSS("button.undo")))
	tab.UntilShown("v1 20 → 70 %, v2 80 → 30 %")
	if w.text() != meshYAML {
		t.Errorf("file after undo:\n%s", w.text())
	}
	sound(t, tab)
}

// drag moves a slider's thumb with the mouse, from one value to another.
func drag(tab *browsertest.Tab, slider string, from, to float64) {
	type box struct{ X, Y, Width, Height float64 }
	tab.Do(chromedp.ScrollIntoView(chromedp.CSS(slider)))
	b := browsertest.Value[box](tab, `document.querySelector('`+slider+`').getBoundingClientRect().toJSON()`)
	// The thumb is 24 px wide; its middle goes from 12 px to 12 px before the end.
	at := func(v float64) float64 { return b.X + 12 + (b.Width-24)*v/100 }
	y := b.Y + b.Height/2
	tab.Do(chromedp.DragAndDropXY(at(from), y, at(to), y, 8))
}

// fits opens the page in every look, quiet and troubled.
func fits(t *testing.T, browser *browsertest.Browser) {
	for name, look := range map[string]browsertest.Look{
		"desktop-light": browsertest.Desktop, "desktop-dark": browsertest.Desktop.InDark(),
		"phone-light": browsertest.Phone, "phone-dark": browsertest.Phone.InDark(),
		"tablet": {Width: 820, Height: 1180, Scale: 1, Phone: true},
	} {
		w := lively(t)
		url, _ := site(t, w.options())
		tab := browser.Open(t, url, look)
		tab.UntilShown("% observed")
		if px := tab.Overflow(); px > 0 {
			t.Errorf("%s: the page is %d px wider than the window", name, px)
		}
		shoot(t, tab, name)
		w.troubled()
		tab.UntilShown("RDS refused")
		if faint := browsertest.Value[[]string](tab, faintText); len(faint) > 0 {
			t.Errorf("%s: contrast below 4.5:1: %q", name, faint)
		}
		if nameless := browsertest.Value[[]string](tab, namelessControls); len(nameless) > 0 {
			t.Errorf("%s: controls without a name: %q", name, nameless)
		}
		shoot(t, tab, name+"-troubled")
		sound(t, tab)
	}
}

// reconnects stops the server of an open page and starts it again on the same
// address.
func reconnects(t *testing.T, browser *browsertest.Browser) {
	w := lively(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	serve := func(l net.Listener) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		p := dashboard.New(w.options())
		server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
		ended := make(chan struct{}, 2)
		go func() { p.Run(ctx); ended <- struct{}{} }()
		go func() { _ = server.Serve(l); ended <- struct{}{} }()
		return func() {
			cancel()
			if err := server.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			<-ended
			<-ended
		}
	}
	stop := serve(listener)
	tab := browser.Open(t, "http://"+address, browsertest.Phone)
	tab.UntilShown("% observed")
	stop()
	tab.UntilShown("The connection to pilotfish is lost")
	tab.Until(`document.querySelector('` + sliderV2 + `').disabled`)
	if px := tab.Overflow(); px > 0 {
		t.Errorf("with the banner the page is %d px wider than the window", px)
	}
	shoot(t, tab, "disconnected")
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer serve(listener)()
	tab.Until(`document.getElementById("banner").hidden && !document.querySelector('` + sliderV2 + `').disabled`)
	drag(tab, sliderV2, 30, 60)
	tab.UntilShown("v2 30 → 60 %")
}

// faintText lists texts whose contrast with what is behind them is below what
// WCAG 2.2 (1.4.3) asks of small text.
const faintText = `(() => {
	const parse = (c) => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
	const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement;
		if (!n.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.getBoundingClientRect().width < 2) continue;
		const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) found.push(n.data.trim() + " " + ratio.toFixed(2));
	}
	return found;
})()`

// namelessControls lists what a screen reader could only call "button".
const namelessControls = `[...document.querySelectorAll("button, input, a[href], summary")]
	.filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.innerText || e.labels?.[0]?.innerText)).map((e) => e.outerHTML)`
