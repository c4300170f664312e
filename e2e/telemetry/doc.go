// Package telemetry proves what sidecars tell of their traffic: spans and logs
// at a real OpenTelemetry collector (tools/otelcol), logs in files, and
// standard metrics. It holds tests only.
package telemetry
