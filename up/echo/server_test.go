package echo_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	id := echo.Identity{Workload: "myapp-v1", Pod: "myapp-v1-0", Namespace: "shop", Version: "v1"}
	go func() { done <- echo.Serve(ctx, id, time.Second, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func client(t *testing.T, http2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func ask(t *testing.T, c *http.Client, method, url string, header map[string]string) (int, echo.Answer) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a echo.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return resp.StatusCode, a
}

func TestSaysWhoItIsOverBothHTTPs(t *testing.T) {
	addr := start(t)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			c := client(t, proto == "HTTP/2.0")
			code, a := ask(t, c, "POST", "http://"+addr+"/a/b?x=1", map[string]string{"X-Who": "me"})
			if code != 200 || a.Workload != "myapp-v1" || a.Version != "v1" || a.Namespace != "shop" || a.Pod != "myapp-v1-0" {
				t.Errorf("answered %d by %+v", code, a.Identity)
			}
			if a.Protocol != proto || a.Method != http.MethodPost || a.Path != "/a/b?x=1" || a.Host != addr || a.BodyBytes != 5 {
				t.Errorf("saw %+v", a)
			}
			if a.Headers.Get("X-Who") != "me" {
				t.Errorf("headers %v", a.Headers)
			}
			if _, port, _ := net.SplitHostPort(addr); a.Port == 0 || port != json.Number(itoa(a.Port)).String() {
				t.Errorf("port %d, want that of %s", a.Port, addr)
			}
		})
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestMisbehavesOnDemand(t *testing.T) {
	addr := start(t)
	c := client(t, false)
	if code, _ := ask(t, c, "GET", "http://"+addr+"/?status=418", nil); code != 418 {
		t.Errorf("status=418 answered %d", code)
	}
	before := time.Now()
	if code, _ := ask(t, c, "GET", "http://"+addr+"/?delay=50ms", nil); code != 200 || time.Since(before) < 50*time.Millisecond {
		t.Errorf("delay=50ms answered %d after %v", code, time.Since(before))
	}
	for i, want := range []int{503, 503, 200, 200} {
		code, _ := ask(t, c, "GET", "http://"+addr+"/", map[string]string{echo.FailFirstHeader: "2", echo.KeyHeader: "k"})
		if code != want {
			t.Errorf("request %d with fail-first 2 answered %d, want %d", i, code, want)
		}
	}
	for _, q := range []string{"status=99", "status=x", "delay=-1s", "delay=2m", "delay=x"} {
		resp, err := c.Get("http://" + addr + "/?" + q)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s answered %d, want 400", q, resp.StatusCode)
		}
	}
}

func TestEchoesTCP(t *testing.T) {
	addr := start(t)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "PUsh me\n"); err != nil { // shares its start with PUT
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var a echo.Answer
	if err := json.Unmarshal(line, &a); err != nil || a.Workload != "myapp-v1" || a.Protocol != "TCP" {
		t.Errorf("first line %s (%v)", line, err)
	}
	if got, err := r.ReadString('\n'); err != nil || got != "PUsh me\n" {
		t.Errorf("echoed %q (%v)", got, err)
	}
}

func TestAnswersGRPC(t *testing.T) {
	addr := start(t)
	c := client(t, true)
	req, _ := http.NewRequest(http.MethodPost, "http://"+addr+"/shop.Cart/Get", strings.NewReader("\x00\x00\x00\x00\x02hi"))
	req.Header.Set("Content-Type", "application/grpc")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "\x00\x00\x00\x00\x02hi" || resp.Trailer.Get("Grpc-Status") != "0" || resp.Header.Get(echo.WorkloadHeader) != "myapp-v1" {
		t.Errorf("body %q, trailer %v, header %v", body, resp.Trailer, resp.Header)
	}
}

// The same port takes TLS: with HTTP by ALPN or without, and TCP.
func TestAnswersOverTLS(t *testing.T) {
	addr := start(t)
	for _, alpn := range [][]string{{"h2"}, {"http/1.1"}, nil} {
		tr := &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example.com", NextProtos: alpn}, //nolint:gosec // the certificate is self-made
			ForceAttemptHTTP2: len(alpn) > 0 && alpn[0] == "h2",
		}
		t.Cleanup(tr.CloseIdleConnections)
		code, a := ask(t, &http.Client{Transport: tr, Timeout: 10 * time.Second}, http.MethodGet, "https://"+addr+"/", nil)
		if code != http.StatusOK || a.TLS == nil || a.TLS.SNI != "shop.example.com" || a.TLS.Version != "TLS 1.3" {
			t.Errorf("ALPN %v: answered %d %+v", alpn, code, a.TLS)
		}
		want := "HTTP/1.1"
		if len(alpn) > 0 && alpn[0] == "h2" {
			want = "HTTP/2.0"
		}
		if a.Protocol != want {
			t.Errorf("ALPN %v: spoke %s", alpn, a.Protocol)
		}
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "tcp.example.com"}) //nolint:gosec // as above
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, `"tls":{"sni":"tcp.example.com"`) || !strings.Contains(line, `"protocol":"TCP"`) {
		t.Errorf("over TLS: %s (%v)", line, err)
	}
}
