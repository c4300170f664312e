// The generator of the Grafana dashboards under manifests/chart/files/grafana.
module github.com/pilotfish-mesh/pilotfish/tools/dashboards

go 1.26.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
