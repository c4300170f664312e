package dashboard_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pilotfish-mesh/pilotfish/dashboard/browsertest"
)

var (
	screenshots = flag.String("screenshots", "", "the folder to write screenshots of the page to")
	running     = flag.String("page", "", "the running page to take them of; without it one with made-up load is")
)

func shoot(t *testing.T, tab *browsertest.Tab, name string) {
	t.Helper()
	if *screenshots != "" {
		write(t, name, tab.Screenshot())
	}
}

func write(t *testing.T, name string, png []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestScreenshots takes the pictures of the README, in the middle of a canary:
//
//	pilotfish up examples/canary --load --http-address 127.0.0.1:15080
//	go test ./dashboard -run TestScreenshots -screenshots ../docs/images -page http://127.0.0.1:15080/
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no pictures asked for: -screenshots names a folder")
	}
	url := *running
	if url == "" {
		url, _ = site(t, lively(t).options())
	}
	browser := browsertest.Start(t)
	desktop := browser.Open(t, url, browsertest.Look{Width: 1280, Height: 1130, Scale: 2})
	phone := browser.Open(t, url, browsertest.Look{Width: 360, Height: 1130, Scale: 2, Phone: true, Dark: true})
	desktop.UntilShown("% observed")
	// The steps of a canary take the time that they take: the plot shows it.
	pause := func(d time.Duration) { <-time.After(d) }
	from := browsertest.Value[float64](desktop, `document.querySelector('`+sliderV2+`').valueAsNumber`)
	for _, to := range []float64{10, 30, 50} {
		drag(desktop, sliderV2, from, to)
		desktop.UntilShown("it after")
		from = to
		pause(17 * time.Second)
	}
	desktop.Do(chromedp.MouseEvent("mouseMoved", 640, 20)) // away from the plots
	pause(4 * time.Second)
	desktop.Do(chromedp.Evaluate[chromedp.Void](`scrollTo(0, 0)`))
	write(t, "page-desktop-light", desktop.View())
	write(t, "page-phone-dark", phone.View())
}
