package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// ticks are those of the kernel's accounting a second (USER_HZ), the same on
// every platform that Envoy is built for.
const ticks = 100

// usage reads what a process has taken: CPU seconds, and resident memory in
// bytes. ok is false where the kernel does not tell.
func usage(pid int) (cpu float64, resident uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	// The second field is the command in parentheses, which may hold anything;
	// those after it begin with the third (proc(5)).
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 22 {
		return 0, 0, false
	}
	number := func(field int) uint64 {
		n, err := strconv.ParseUint(f[field-3], 10, 64)
		ok = ok && err == nil
		return n
	}
	ok = true
	cpu = float64(number(14)+number(15)) / ticks
	resident = number(24) * uint64(os.Getpagesize()) //nolint:gosec // a small positive number
	return cpu, resident, ok
}

// WriteUsage writes CPU and memory of a process under the usual names after a
// prefix, in Prometheus' text format; nothing where they are not known.
func WriteUsage(w io.Writer, prefix string, pid int) {
	cpu, resident, ok := usage(pid)
	if !ok {
		return
	}
	_, _ = fmt.Fprintf(w, "# HELP %[1]s_process_cpu_seconds_total Seconds of CPU that the process has taken.\n"+
		"# TYPE %[1]s_process_cpu_seconds_total counter\n%[1]s_process_cpu_seconds_total %.2[2]f\n"+
		"# HELP %[1]s_process_resident_memory_bytes Memory of the process, in bytes.\n"+
		"# TYPE %[1]s_process_resident_memory_bytes gauge\n%[1]s_process_resident_memory_bytes %[3]d\n", prefix, cpu, resident)
}

// WriteBuild writes the version of a component as Istio's tools expect it.
func WriteBuild(w io.Writer, component, version string) {
	_, _ = fmt.Fprintf(w, "# TYPE istio_build gauge\nistio_build{component=%q,tag=%q} 1\n", component, version)
}
