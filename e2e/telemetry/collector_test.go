package telemetry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) { stage.Main(m) }

// collector is a running OpenTelemetry collector that writes what it gets to
// files.
type collector struct {
	t            *testing.T
	otlp, zipkin int // ports
	dir          string
}

const collectorConfig = `
receivers:
  otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}}}
  zipkin: {endpoint: "127.0.0.1:%d"}
exporters:
  file/traces: {path: %[3]q, flush_interval: 50ms}
  file/logs: {path: %[4]q, flush_interval: 50ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp, zipkin], exporters: [file/traces]}
    logs: {receivers: [otlp], exporters: [file/logs]}
`

// startCollector builds it, which is cached, and runs it until the test ends.
func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, otlp: envoytest.FreePort(t), zipkin: envoytest.FreePort(t), dir: t.TempDir()}
	c.run("otelcol", fmt.Sprintf(collectorConfig, c.otlp, c.zipkin, c.file("traces"), c.file("logs")), c.otlp, c.zipkin)
	return c
}

const contribConfig = `
receivers:
  skywalking: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}}}
  datadog: {endpoint: "127.0.0.1:%d"}
exporters:
  file/traces: {path: %q, flush_interval: 50ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [skywalking, datadog], exporters: [file/traces]}
`

// startContrib is startCollector for the protocols of SkyWalking and Datadog,
// which go to the two ports.
func startContrib(t *testing.T) (c *collector, skywalking, datadog int) {
	t.Helper()
	c = &collector{t: t, dir: t.TempDir()}
	sky, dog := envoytest.FreePort(t), envoytest.FreePort(t)
	c.run("otelcol-contrib", fmt.Sprintf(contribConfig, sky, dog, c.file("traces")), sky, dog)
	return c, forward(t, sky), dog
}

// forward passes connections to 127.0.0.1 on to a port of a server that takes
// those to all addresses, where those of the mesh want the same port.
func forward(t *testing.T, to int) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := []io.Closer{l}
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			running.Go(func() { _, _ = io.Copy(out, in) })
			running.Go(func() { _, _ = io.Copy(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return portOf(t, l.Addr().String())
}

// run runs a collector until the test ends, once it takes connections at ports.
func (c *collector) run(tool, settings string, ports ...int) {
	t := c.t
	t.Helper()
	out, err := exec.Command("../../tools/build.sh", tool).Output()
	if err != nil {
		t.Fatalf("tools/build.sh %s: %v", tool, err)
	}
	config := filepath.Join(c.dir, "collector.yaml")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(strings.TrimSpace(string(out)), "--config", config)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	envoytest.Eventually(t, stage.Patience, func() string {
		for _, port := range ports {
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return err.Error()
			}
			_ = conn.Close()
		}
		return ""
	})
}

func (c *collector) file(kind string) string { return filepath.Join(c.dir, kind+".json") }

// attributes are OTLP's, in JSON; only texts are read.
type attributes []struct {
	Key   string `json:"key"`
	Value struct {
		Text string `json:"stringValue"`
	} `json:"value"`
}

func (a attributes) get(key string) string {
	for _, x := range a {
		if x.Key == key {
			return x.Value.Text
		}
	}
	return ""
}

// span is one that the collector got.
type span struct {
	Trace      string     `json:"traceId"`
	ID         string     `json:"spanId"`
	Parent     string     `json:"parentSpanId"`
	Name       string     `json:"name"`
	Kind       int        `json:"kind"` // OTLP's: 2 is a server, 3 a client
	Attributes attributes `json:"attributes"`

	service string // of the resource
}

func lines(t *testing.T, file string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out [][]byte
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		out = append(out, bytes.Clone(s.Bytes()))
	}
	return out
}

// spans are those of requests whose path holds a text.
func (c *collector) spans(path string) []span { return c.all("http.url", path) }

// all are the spans that have a text in an attribute.
func (c *collector) all(attribute, text string) []span {
	c.t.Helper()
	var out []span
	for _, line := range lines(c.t, c.file("traces")) {
		var r struct {
			ResourceSpans []struct {
				Resource   struct{ Attributes attributes }
				ScopeSpans []struct{ Spans []span }
			}
		}
		if json.Unmarshal(line, &r) != nil {
			continue // half a line; it is whole at the next look
		}
		for _, rs := range r.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					s.service = rs.Resource.Attributes.get("service.name")
					if strings.Contains(s.Attributes.get(attribute), text) {
						out = append(out, s)
					}
				}
			}
		}
	}
	return out
}

// record is one log entry that the collector got.
type record struct {
	Body struct {
		Text string `json:"stringValue"`
	} `json:"body"`
	Attributes attributes `json:"attributes"`
	log        string
}

func (c *collector) records() []record {
	c.t.Helper()
	var out []record
	for _, line := range lines(c.t, c.file("logs")) {
		var r struct {
			ResourceLogs []struct {
				Resource  struct{ Attributes attributes }
				ScopeLogs []struct{ LogRecords []record }
			}
		}
		if json.Unmarshal(line, &r) != nil {
			continue // see spans
		}
		for _, rl := range r.ResourceLogs {
			for _, sl := range rl.ScopeLogs {
				for _, x := range sl.LogRecords {
					x.log = rl.Resource.Attributes.get("log_name")
					out = append(out, x)
				}
			}
		}
	}
	return out
}

// mesh runs testdata/mesh.yaml with more configuration; OTLP, ZIPKIN and DIR in
// it are the collector's ports and a folder for logs.
func mesh(t *testing.T, c *collector, mode up.Mode, more string) *stage.Stage {
	t.Helper()
	dir := stage.Copy(t, "testdata")
	b, err := os.ReadFile(filepath.Join(dir, "mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("OTLP", strconv.Itoa(c.otlp), "ZIPKIN", strconv.Itoa(c.zipkin), "DIR", c.dir).Replace(string(b) + "---" + more)
	stage.Write(t, filepath.Join(dir, "mesh.yaml"), text)
	return stage.Start(t, dir, mode)
}
