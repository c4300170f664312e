package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Queries about traffic are of a selector: the labels, without braces.

func rate(metric, selector string) string {
	return "rate(" + metric + "{" + selector + "}[$__rate_interval])"
}

func sum(by, of string) string {
	if by == "" {
		return "sum(" + of + ")"
	}
	return "sum by (" + by + ") (" + of + ")"
}

// or0 gives 0 where there is nothing.
func or0(expr string) string { return expr + " or vector(0)" }

func quantile(q, by, histogram, selector string) string {
	if by != "" {
		by += ", "
	}
	return fmt.Sprintf("histogram_quantile(%s, %s)", q, sum(by+"le", rate(histogram+"_bucket", selector)))
}

// success is the share of requests that were not answered with 5xx, nor, if
// they are gRPC's, with a status that says that the server failed.
func success(by, selector string) string {
	all := sum(by, rate("istio_requests_total", selector))
	failed := sum(by, rate("istio_requests_total", selector+`, response_code=~"5.."`)+" or "+
		rate("istio_requests_total", selector+`, response_code!~"5..", grpc_response_status=~"2|4|12|13|14|15"`))
	return fmt.Sprintf("1 - (%s or %s * 0) / %s", failed, all, all)
}

const (
	tcpSent     = "istio_tcp_sent_bytes_total"
	tcpReceived = "istio_tcp_received_bytes_total"
	requests    = "istio_requests_total"
	duration    = "istio_request_duration_milliseconds"
	fromClients = `reporter="source"`
)

func mesh() *dashboard.DashboardBuilder {
	b := board("mesh", "Mesh", "All traffic of the mesh, as the clients' sidecars and the gateways saw it.")
	row(b, "Mesh", panels{
		number("Requests", "reqps", "Requests a second, of all protocols.", or0(sum("", rate(requests, fromClients)))),
		judged(number("Success rate", "percentunit", "Share of requests without a failure of the server: 5xx, or one of gRPC's statuses for it.",
			success("", fromClients)), 0.99, true),
		number("Answers 4xx", "reqps", "Answers a second with a status of 400 to 499.", or0(sum("", rate(requests, fromClients+`, response_code=~"4.."`)))),
		number("Answers 5xx", "reqps", "Answers a second with a status of 500 to 599.", or0(sum("", rate(requests, fromClients+`, response_code=~"5.."`)))),
		number("TCP", "Bps", "Bytes a second on connections that are not HTTP, both directions.",
			or0("("+sum("", rate(tcpSent, fromClients))+" + "+sum("", rate(tcpReceived, fromClients))+")")),
		number("Connected proxies", "short", "Proxies that are connected to the control plane.", "sum(pilot_xds)"),
	})
	row(b, "Services", panels{
		listing("HTTP and gRPC", "Services by the requests that they were sent.", map[string]string{"destination_service": "Service"},
			column{"Requests", "reqps", sum("destination_service", rate(requests, fromClients))},
			column{"Success rate", "percentunit", success("destination_service", fromClients)},
			column{"p50", "ms", quantile("0.5", "destination_service", duration, fromClients)},
			column{"p90", "ms", quantile("0.9", "destination_service", duration, fromClients)},
			column{"p99", "ms", quantile("0.99", "destination_service", duration, fromClients)},
		),
		listing("TCP", "Services by the connections that were made to them.", map[string]string{"destination_service": "Service"},
			column{"Opened", "cps", sum("destination_service", rate("istio_tcp_connections_opened_total", fromClients))},
			column{"Closed", "cps", sum("destination_service", rate("istio_tcp_connections_closed_total", fromClients))},
			column{"Sent", "Bps", sum("destination_service", rate(tcpSent, fromClients))},
			column{"Received", "Bps", sum("destination_service", rate(tcpReceived, fromClients))},
		).Height(6),
	})
	row(b, "Over time", panels{
		graph("Requests by status", "reqps", "", query{sum("response_code", rate(requests, fromClients)), "{{response_code}}"}),
		graph("Requests by protocol", "reqps", "", query{sum("request_protocol", rate(requests, fromClients)), "{{request_protocol}}"}),
		graph("Requests by security", "reqps", "As the servers' sidecars saw them: mutual_tls, or none.",
			query{sum("connection_security_policy", rate(requests, `reporter="destination"`)), "{{connection_security_policy}}"}),
		graph("Response flags", "reqps", "Why Envoy answered by itself, by its response flags.",
			query{or0(sum("response_flags", rate(requests, fromClients+`, response_flags!="-"`))), "{{response_flags}}"}),
		graph("Messages of gRPC", "cps", "", query{or0(sum("", rate("istio_request_messages_total", fromClients))), "requests"},
			query{or0(sum("", rate("istio_response_messages_total", fromClients))), "responses"}),
		graph("Problems of the configuration", "short", "By severity, from the control plane.", query{"sum by (severity) (pilotfish_problems)", "{{severity}}"}),
	})
	return b
}

// traffic are the panels about a selector's requests and connections, told
// apart by labels.
func traffic(selector, by, legend string) panels {
	of := func(expr string) query { return query{expr, legend} }
	lasting := func(q, name string) query {
		return query{quantile(q, "", duration, selector), name}
	}
	return panels{
		graph("Requests", "reqps", "", query{sum(by+", response_code", rate(requests, selector)), legend + " {{response_code}}"}),
		share("Success rate", "Share of requests without a failure of the server.", of(success(by, selector))),
		graph("Duration", "ms", "", lasting("0.5", "p50"), lasting("0.9", "p90"), lasting("0.99", "p99")),
		graph("Duration, p99", "ms", "", of(quantile("0.99", by, duration, selector))),
		graph("Size of requests, p95", "bytes", "", of(quantile("0.95", by, "istio_request_bytes", selector))),
		graph("Size of responses, p95", "bytes", "", of(quantile("0.95", by, "istio_response_bytes", selector))),
		graph("TCP connections", "cps", "", query{sum(by, rate("istio_tcp_connections_opened_total", selector)), legend + " opened"},
			query{sum(by, rate("istio_tcp_connections_closed_total", selector)), legend + " closed"}),
		graph("TCP bytes sent to clients", "Bps", "", of(sum(by, rate(tcpSent, selector)))),
		graph("TCP bytes received from clients", "Bps", "", of(sum(by, rate(tcpReceived, selector)))),
	}
}

func service() *dashboard.DashboardBuilder {
	const (
		client = `reporter="source", destination_service=~"$service"`
		server = `reporter="destination", destination_service=~"$service"`
	)
	b := board("service", "Service", "One service: who calls it, and how it answers.").
		WithVariable(choice("service", "Service", `label_values({__name__=~"istio_requests_total|istio_tcp_connections_opened_total"}, destination_service)`, false))
	row(b, "$service", panels{
		number("Requests", "reqps", "As the clients' sidecars saw them.", or0(sum("", rate(requests, client)))).Span(6),
		judged(number("Success rate", "percentunit", "As the clients' sidecars saw it.", success("", client)), 0.99, true).Span(6),
		number("p99 at the clients", "ms", "", quantile("0.99", "", duration, client)).Span(6),
		number("p99 at the servers", "ms", "", quantile("0.99", "", duration, server)).Span(6),
	})
	row(b, "By client (as the servers' sidecars saw it)", traffic(server, "source_workload, source_workload_namespace", "{{source_workload}}.{{source_workload_namespace}}"))
	row(b, "By workload (as the clients' sidecars saw it)", traffic(client, "destination_workload, destination_version", "{{destination_workload}} {{destination_version}}"))
	return b
}

func workload() *dashboard.DashboardBuilder {
	const (
		in  = `reporter="destination", destination_workload_namespace=~"$namespace", destination_workload=~"$workload"`
		out = `reporter="source", source_workload_namespace=~"$namespace", source_workload=~"$workload"`
	)
	b := board("workload", "Workload", "One workload: what comes in and what goes out.").
		WithVariable(choice("namespace", "Namespace", `label_values({__name__=~"istio_requests_total|istio_tcp_connections_opened_total"}, destination_workload_namespace)`, false)).
		WithVariable(choice("workload", "Workload", `label_values({__name__=~"istio_requests_total|istio_tcp_connections_opened_total", destination_workload_namespace=~"$namespace"}, destination_workload)`, false))
	row(b, "$workload in $namespace", panels{
		number("Requests in", "reqps", "", or0(sum("", rate(requests, in)))),
		judged(number("Success rate in", "percentunit", "", success("", in)), 0.99, true),
		number("p99 in", "ms", "", quantile("0.99", "", duration, in)),
		number("Requests out", "reqps", "", or0(sum("", rate(requests, out)))),
		judged(number("Success rate out", "percentunit", "", success("", out)), 0.99, true),
		number("p99 out", "ms", "", quantile("0.99", "", duration, out)),
	})
	row(b, "In, by client", traffic(in, "source_workload, source_workload_namespace", "{{source_workload}}.{{source_workload_namespace}}"))
	row(b, "Out, by service", traffic(out, "destination_service", "{{destination_service}}"))
	return b
}
