package echo

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Answer is the JSON body of every HTTP response, and the first line of a TCP
// connection.
type Answer struct {
	Identity
	Protocol string      `json:"protocol"` // HTTP/1.1, HTTP/2.0 or TCP
	Port     int         `json:"port"`     // that it was received on
	Method   string      `json:"method,omitempty"`
	Path     string      `json:"path,omitempty"` // with the query
	Host     string      `json:"host,omitempty"`
	Headers  http.Header `json:"headers,omitempty"`
	TLS      *TLS        `json:"tls,omitempty"` // nil without
	// BodyBytes is the length of the request's body.
	BodyBytes int64 `json:"bodyBytes,omitempty"`
}

// Response headers that name the server, so that a client need not read the
// body.
const (
	WorkloadHeader  = "X-Echo-Workload"
	PodHeader       = "X-Echo-Pod"
	NamespaceHeader = "X-Echo-Namespace"
	VersionHeader   = "X-Echo-Version"
)

// Knobs by which a client asks for misbehaviour. The query parameters status
// (200 to 599) and delay (a Go duration, at most a minute) do what they say.
const (
	// FailFirstHeader: N answers 503 to the first N requests that have the
	// same KeyHeader, or without it the same x-request-id, which Envoy keeps
	// when it retries.
	FailFirstHeader = "X-Echo-Fail-First"
	KeyHeader       = "X-Echo-Key"
)

const (
	maxDelay      = time.Minute
	rememberedKey = 10_000
)

type handler struct {
	id Identity
	// failed counts, by key, the requests that were failed on demand.
	failed *lru.Cache[string, int]
}

func newHandler(id Identity) *handler {
	failed, err := lru.New[string, int](rememberedKey)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &handler{id: id, failed: failed}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(WorkloadHeader, h.id.Workload)
	w.Header().Set(PodHeader, h.id.Pod)
	w.Header().Set(NamespaceHeader, h.id.Namespace)
	if h.id.Version != "" {
		w.Header().Set(VersionHeader, h.id.Version)
	}
	status, delay, problem := knobs(r)
	if problem != "" {
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		}
	}
	if h.failsOnDemand(r) {
		status = http.StatusServiceUnavailable
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		answerGRPC(w, r, status)
		return
	}
	h.answer(w, r, status)
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request, status int) {
	n, _ := io.Copy(io.Discard, r.Body)
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	body, err := json.Marshal(Answer{
		Identity: h.id, Protocol: r.Proto, Port: portOf(conn), TLS: tlsOf(conn), Method: r.Method,
		Path: r.URL.RequestURI(), Host: r.Host, Headers: r.Header, BodyBytes: n,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// answerGRPC returns the request's message as the response, so that any unary
// or streaming method looks implemented; who answered is in the headers.
func answerGRPC(w http.ResponseWriter, r *http.Request, status int) {
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Trailer", "Grpc-Status")
	code := "0"
	if status == http.StatusServiceUnavailable {
		code = "14" // UNAVAILABLE
	} else if status != http.StatusOK {
		code = "2" // UNKNOWN
	}
	if code == "0" {
		_, _ = io.Copy(w, r.Body)
	}
	w.Header().Set("Grpc-Status", code)
}

func knobs(r *http.Request) (status int, delay time.Duration, problem string) {
	q := r.URL.Query()
	status = http.StatusOK
	if s := q.Get("status"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 200 || n > 599 {
			return 0, 0, "status must be a number from 200 to 599"
		}
		status = n
	}
	if s := q.Get("delay"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > maxDelay {
			return 0, 0, "delay must be a duration from 0s to 1m"
		}
		delay = d
	}
	return status, delay, ""
}

func (h *handler) failsOnDemand(r *http.Request) bool {
	n, err := strconv.Atoi(r.Header.Get(FailFirstHeader))
	if err != nil || n <= 0 {
		return false
	}
	key := r.Header.Get(KeyHeader)
	if key == "" {
		key = r.Header.Get("X-Request-Id")
	}
	// Two requests of one key at a time may both see the same count; retries
	// come one after another.
	seen, _ := h.failed.Get(key)
	if seen >= n {
		return false
	}
	h.failed.Add(key, seen+1)
	return true
}
