package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/pilotfish-mesh/pilotfish/webhook"
)

func serve(t *testing.T) (url string, failures *[]string) {
	t.Helper()
	failures = &[]string{}
	h := webhook.Handler(func(_ context.Context, r *webhook.Request) *admissionv1.AdmissionResponse {
		if r.Name == "bad" {
			return webhook.Refused("not this one", "beware")
		}
		return webhook.Allowed()
	}, func(err error) { *failures = append(*failures, err.Error()) })
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL, failures
}

func post(t *testing.T, url, contentType string, body io.Reader) (int, string) {
	t.Helper()
	resp, err := http.Post(url, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Both versions are answered in their own version, with the request's UID.
func TestVersions(t *testing.T) {
	url, failures := serve(t)
	for _, version := range []string{"v1", "v1beta1"} {
		for name, allowed := range map[string]bool{"good": true, "bad": false} {
			code, body := post(t, url, "application/json", strings.NewReader(
				`{"apiVersion":"admission.k8s.io/`+version+`","kind":"AdmissionReview","request":{"uid":"u7","name":"`+name+`"}}`))
			var got struct {
				APIVersion, Kind string
				Response         struct {
					UID      string
					Allowed  bool
					Status   struct{ Message string }
					Warnings []string
				}
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
				t.Fatal(code, err, body)
			}
			if got.APIVersion != "admission.k8s.io/"+version || got.Kind != "AdmissionReview" || got.Response.UID != "u7" || got.Response.Allowed != allowed {
				t.Errorf("%s %s: %s", version, name, body)
			}
			if !allowed && (got.Response.Status.Message != "not this one" || len(got.Response.Warnings) != 1) {
				t.Errorf("%s: %s", version, body)
			}
		}
	}
	if len(*failures) > 0 {
		t.Error(*failures)
	}
}

// What is no AdmissionReview gets an exact error, which is counted.
func TestRefusedRequests(t *testing.T) {
	for name, c := range map[string]struct {
		contentType, body string
		code              int
		want              string
	}{
		"no body":      {"application/json", "", 400, "the request is empty: want an AdmissionReview"},
		"content type": {"text/plain", "{}", 415, `content type "text/plain": want application/json`},
		"no JSON":      {"application/json", "{", 400, "the request is no AdmissionReview: unexpected end of JSON input"},
		"other kind": {"application/json", `{"apiVersion":"v1","kind":"Pod"}`, 400,
			`the request is a "Pod" of "v1": want an AdmissionReview of admission.k8s.io/v1 or v1beta1`},
		"other version": {"application/json", `{"apiVersion":"admission.k8s.io/v9","kind":"AdmissionReview","request":{}}`, 400,
			`the request is a "AdmissionReview" of "admission.k8s.io/v9": want an AdmissionReview of admission.k8s.io/v1 or v1beta1`},
		"no request": {"application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400, "the AdmissionReview has no request"},
		"huge":       {"application/json", strings.Repeat(" ", 8<<20+1), 413, "the AdmissionReview is larger than 8 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			url, failures := serve(t)
			code, body := post(t, url, c.contentType, strings.NewReader(c.body))
			if code != c.code || strings.TrimSpace(body) != c.want {
				t.Errorf("%d %q, want %d %q", code, body, c.code, c.want)
			}
			if len(*failures) != 1 || (*failures)[0] != c.want {
				t.Errorf("counted %q", *failures)
			}
		})
	}
	url, _ := serve(t)
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp.Status)
	}
}

// A client of unknown length is bounded too, and counted.
func TestHugeRequestWithoutLength(t *testing.T) {
	counted := make(chan string, 2)
	s := httptest.NewServer(webhook.Handler(nil, func(err error) { counted <- err.Error() }))
	t.Cleanup(s.Close)
	endless := io.LimitReader(zeroes{}, 32<<20)
	resp, err := http.Post(s.URL, "application/json", endless)
	if err == nil { // else the server closed the connection before all was sent
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Error(resp.Status)
		}
	}
	if got := <-counted; got != "the AdmissionReview is larger than 8 MiB" || len(counted) > 0 {
		t.Errorf("counted %q, and %d more", got, len(counted))
	}
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// A caller that sends its review slower than the server waits is let go, counted,
// and keeps nobody else from being served.
func TestSlowRequest(t *testing.T) {
	t.Parallel() // it waits for the server's patience to end
	url, failures := serve(t)
	slow, never := io.Pipe()
	defer func() { _ = never.Close() }()
	done := make(chan error, 1)
	go func() {
		resp, err := http.Post(url, "application/json", slow)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				err = errors.New(resp.Status)
			}
		}
		done <- err
	}()
	if _, err := never.Write([]byte(`{"apiVersion":`)); err != nil {
		t.Fatal(err)
	}
	if code, body := post(t, url, "application/json", strings.NewReader(
		`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","name":"good"}}`)); code != 200 {
		t.Errorf("another caller meanwhile: %d %s", code, body)
	}
	select {
	case err := <-done:
		if err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it is still waited for")
	}
	if len(*failures) != 1 || !strings.Contains((*failures)[0], "reading the AdmissionReview") {
		t.Errorf("counted %q", *failures)
	}
}
