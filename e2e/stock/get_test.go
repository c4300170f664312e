package stock

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// client keeps no connection that a test would leave behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}

func fetch(url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// get is what is wrong with a page that should be there and hold texts.
func get(url string, wants ...string) string {
	body, err := fetch(url)
	if err != nil {
		return err.Error()
	}
	for _, want := range wants {
		if !strings.Contains(body, want) {
			return fmt.Sprintf("%s lacks %q", url, want)
		}
	}
	return ""
}
