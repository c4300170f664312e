// Package browsertest starts a real Chromium for tests of the web page and
// records what it loads and complains about.
//
// It consumes a Chromium of this machine and produces tabs that chromedp
// actions run in. Only tests may import it.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience bounds everything that a test waits for in a tab.
const patience = 60 * time.Second

// Browser is a running Chromium.
type Browser struct{ ctx context.Context }

// Start starts a Chromium of the test's own, which ends with the test. Without
// one on this machine (CHROMIUM
// names it if it is not in PATH) the test is skipped, or fails where CI=true.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := find()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := profile(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.DisableGPU,
		chromedp.UserDataDir(dir), chromedp.Env("TMPDIR="+dir), // what it leaves behind goes with the profile
		chromedp.WSURLReadTimeout(patience),
		// No word of it may leave the machine, whatever the page does.
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	return &Browser{browser}
}

// profile is a fresh folder. Chromium's processes may still write to it for an
// instant after the browser has ended, so that one removal is not enough.
func profile(t testing.TB) string {
	dir, err := os.MkdirTemp("", "pilotfish-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !poll(10*time.Second, 50*time.Millisecond, func() bool { return os.RemoveAll(dir) == nil }) {
			t.Errorf("Chromium's profile %s stays behind", dir)
		}
	})
	return dir
}

func find() (string, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return exec.LookPath(path)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no Chromium found: install the package chromium, or set CHROMIUM to its path")
}

// Look is how a tab shows a page.
type Look struct {
	Width, Height int64 // of the window, in CSS pixels
	Scale         float64
	Dark          bool // what the system asks for
	Phone         bool // touch, and a viewport that the page may set
}

// The looks that pages are tested in.
var (
	Desktop = Look{Width: 1440, Height: 1000, Scale: 1}
	Phone   = Look{Width: 360, Height: 780, Scale: 2, Phone: true}
)

// InDark is the look in a dark system.
func (l Look) InDark() Look { l.Dark = true; return l }

// Tab is one open page.
type Tab struct {
	t      testing.TB
	ctx    context.Context
	origin string

	mu         sync.Mutex
	complaints []string
	requests   []string
}

// Open opens a page in a new tab, with storage that it shares with the other
// tabs of the browser.
func (b *Browser) Open(t testing.TB, address string, look Look) *Tab {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	tab := &Tab{t: t, origin: u.Scheme + "://" + u.Host}
	ctx, closeTab := chromedp.NewContext(b.ctx, chromedp.WithListener(tab.record))
	t.Cleanup(closeTab)
	tab.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first run
		t.Fatalf("no new tab: %v", err)
	}
	tab.Do(chromedp.Func(look.apply))
	tab.Do(chromedp.Navigate(address))
	return tab
}

// apply also makes the browser report requests and its log.
func (l Look) apply(ctx context.Context, target *chromedp.Target) error {
	scheme := "light"
	if l.Dark {
		scheme = "dark"
	}
	if _, err := cdp.Call(ctx, target, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	if _, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{}); err != nil {
		return err
	}
	_, err := cdp.Call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: l.Width, Height: l.Height, DeviceScaleFactor: l.Scale, Mobile: l.Phone,
	})
	if err != nil {
		return err
	}
	_, err = cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	return err
}

func (p *Tab) record(e any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := e.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		p.complaints = append(p.complaints, "exception: "+describe(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		switch e.Type {
		case "error", "warning", "assert":
			words := []string{}
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			p.complaints = append(p.complaints, "console: "+strings.Join(words, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			p.complaints = append(p.complaints, "log: "+e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func describe(e *runtime.ExceptionDetails) string {
	if e.Exception != nil {
		return e.Text + " " + e.Exception.Description
	}
	return e.Text
}

// Do runs actions in the tab; the test fails if one does or takes more than a
// minute.
func (p *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("in the page: %v%s", err, p.state())
	}
}

// Value evaluates a JavaScript expression.
func Value[T any](p *Tab, expression string) T {
	p.t.Helper()
	return get(p, chromedp.Evaluate[T](expression))
}

func get[T any](p *Tab, action chromedp.Action[T]) T {
	p.t.Helper()
	v, err := tryGet(p, action)
	if err != nil {
		p.t.Fatalf("in the page: %v%s", err, p.state())
	}
	return v
}

func tryGet[T any](p *Tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// leaving says whether an answer is missing because the tab went to another
// document in between, as it does after a form is sent.
func leaving(err error) bool {
	var refused *cdproto.Error
	return errors.As(err, &refused) && refused.Code == serverError &&
		(strings.Contains(refused.Message, "navigated or closed") || strings.Contains(refused.Message, "context was destroyed") ||
			strings.Contains(refused.Message, "Cannot find context"))
}

// serverError is JSON-RPC's code of an error that the server defines.
const serverError = -32000

// state helps to see why a wait was in vain.
func (p *Tab) state() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	return fmt.Sprintf("\ncomplaints: %q\nshown (%v):\n%s", p.Complaints(), err, text)
}

// Until waits until a JavaScript expression is true. It asks from outside:
// chromedp's own polling compiles code in the page, which the page forbids.
// A page that is just leaving is asked again.
func (p *Tab) Until(expression string) {
	p.t.Helper()
	if !poll(patience/2, 20*time.Millisecond, func() bool {
		yes, err := tryGet(p, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err != nil && !leaving(err) {
			p.t.Fatalf("in the page: %v%s", err, p.state())
		}
		return err == nil && yes
	}) {
		p.t.Fatalf("waited in vain for %s%s", expression, p.state())
	}
}

// poll asks until the answer is yes, and reports whether it was in time.
func poll(patience, interval time.Duration, ask func() bool) bool {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ask() {
			return true
		}
	}
	return false
}

// UntilShown waits until the page shows a text.
func (p *Tab) UntilShown(text string) {
	p.t.Helper()
	p.Until(fmt.Sprintf("document.body?.innerText.includes(%q) === true", text)) // there is no body while a page loads
}

// Type replaces a field's content, as a user does, and presses Enter.
func (p *Tab) Type(field, text string) {
	p.t.Helper()
	p.Do(chromedp.Focus(chromedp.CSS(field)))
	p.Until(`(document.activeElement.select(), true)`)
	p.Do(chromedp.KeyEvent(text + kb.Enter))
}

// Overflow is how many CSS pixels the page is wider than the window.
func (p *Tab) Overflow() int {
	p.t.Helper()
	return Value[int](p, `document.scrollingElement.scrollWidth - document.documentElement.clientWidth`)
}

// Screenshot returns the whole page as PNG.
func (p *Tab) Screenshot() []byte {
	p.t.Helper()
	return get(p, chromedp.FullScreenshot(100))
}

// View returns what the window shows as PNG.
func (p *Tab) View() []byte {
	p.t.Helper()
	return get(p, chromedp.CaptureScreenshot())
}

// Complaints are the errors and warnings so far, of scripts and of the
// browser (blocked content, failed requests).
func (p *Tab) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.complaints)
}

// Foreign are the requests so far to anything but the page's own origin.
func (p *Tab) Foreign() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, r := range p.requests {
		if !strings.HasPrefix(r, p.origin+"/") && !strings.HasPrefix(r, "data:") {
			out = append(out, r)
		}
	}
	return out
}
