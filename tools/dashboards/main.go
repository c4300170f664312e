// Command dashboards writes the Grafana dashboards of the chart:
//
//	cd tools/dashboards && go run . ../../manifests/chart/files/grafana
//
// Every panel's query is run by e2e/dashboards against a real Prometheus.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards FOLDER")
		os.Exit(2)
	}
	for name, b := range map[string]*dashboard.DashboardBuilder{
		"mesh": mesh(), "service": service(), "workload": workload(), "control-plane": controlPlane(), "proxies": proxies(),
	} {
		if err := write(filepath.Join(os.Args[1], name+".json"), b); err != nil {
			fmt.Fprintln(os.Stderr, "dashboards:", name, err)
			os.Exit(1)
		}
	}
}

func write(file string, b *dashboard.DashboardBuilder) error {
	d, err := b.Build()
	if err != nil {
		return err
	}
	js, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(js, '\n'), 0o644)
}

func ptr[T any](v T) *T { return &v }

// source is the data source that the variable of every dashboard chooses.
var source = common.DataSourceRef{Type: ptr("prometheus"), Uid: ptr("${datasource}")}

// board begins a dashboard. Its uid begins with pilotfish-, so that it stands
// beside Istio's own.
func board(name, title, description string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder("Pilotfish / "+title).Uid("pilotfish-"+name).Description(description).
		Tags([]string{"pilotfish", "istio"}).Timezone("browser").Time("now-1h", "now").Refresh("30s").Editable().
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		Link(dashboard.NewDashboardLinkBuilder("Pilotfish").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"pilotfish"}).
			AsDropdown(true).KeepTime(true).IncludeVars(true))
}

// choice is a variable with the values of a label. All is "all" if it may be.
func choice(name, label, query string, all bool) *dashboard.QueryVariableBuilder {
	v := dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).Query(dashboard.StringOrMap{String: &query}).
		Definition(query).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc)
	if all {
		v.IncludeAll(true).Multi(true).AllValue(".*").Current(dashboard.VariableOption{
			Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}}, Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		})
	}
	return v
}

// query is an expression with the legend of what it gives.
type query struct{ expr, legend string }

func (q query) target(i int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Datasource(source).Expr(q.expr).LegendFormat(q.legend).RefId(string(rune('A' + i))).Range()
}

func graph(title, unit, description string, queries ...query) *timeseries.PanelBuilder {
	p := timeseries.NewPanelBuilder().Title(title).Description(description).Unit(unit).Datasource(source).Height(8).Span(8).Min(0).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	for i, q := range queries {
		p.WithTarget(q.target(i))
	}
	return p
}

// share is a graph of shares of one.
func share(title, description string, queries ...query) *timeseries.PanelBuilder {
	return graph(title, "percentunit", description, queries...).Max(1)
}

func number(title, unit, description, expr string) *stat.PanelBuilder {
	return stat.NewPanelBuilder().Title(title).Description(description).Unit(unit).Datasource(source).Height(4).Span(4).
		GraphMode(common.BigValueGraphModeArea).ColorMode(common.BigValueColorModeValue).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
		WithTarget(query{expr, title}.target(0))
}

// judged colours a number: red from a value on if it may not be more, or below
// it if it may not be less.
func judged(p *stat.PanelBuilder, bad float64, below bool) *stat.PanelBuilder {
	first, then := "green", "red"
	if below {
		first, then = then, first
	}
	return p.Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).
		Steps([]dashboard.Threshold{{Color: first}, {Value: ptr(bad), Color: then}}))
}

// heat is a heatmap of a histogram.
func heat(title, unit, description, histogram, selector string) *heatmap.PanelBuilder {
	return heatmap.NewPanelBuilder().Title(title).Description(description).Datasource(source).Height(8).Span(8).
		YAxis(heatmap.NewYAxisConfigBuilder().Unit(unit)).
		WithTarget(prometheus.NewDataqueryBuilder().Datasource(source).Expr("sum by (le) (increase(" + histogram + "_bucket{" + selector + "}[$__rate_interval]))").
			LegendFormat("{{le}}").RefId("A").Range().Format(prometheus.PromQueryFormatHeatmap))
}

// column is a query of a table, and how its values are shown.
type column struct{ name, unit, expr string }

// listing is a table with a row for each set of labels.
func listing(title, description string, labels map[string]string, columns ...column) *table.PanelBuilder {
	p := table.NewPanelBuilder().Title(title).Description(description).Datasource(source).Height(9).Span(24)
	names := map[string]string{}
	for label, name := range labels {
		names[label] = name
	}
	for i, c := range columns {
		id := string(rune('A' + i))
		p.WithTarget(prometheus.NewDataqueryBuilder().Datasource(source).Expr(c.expr).RefId(id).Instant().Format(prometheus.PromQueryFormatTable))
		names["Value #"+id] = c.name
		p.OverrideByName(c.name, []dashboard.DynamicConfigValue{{Id: "unit", Value: c.unit}})
	}
	if len(columns) == 1 { // Grafana does not number a single one
		names["Value"] = columns[0].name
	}
	return p.WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}}).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": map[string]bool{"Time": true}, "renameByName": names,
		}})
}

type panels []cog.Builder[dashboard.Panel]

func row(b *dashboard.DashboardBuilder, title string, p panels) {
	b.WithRow(dashboard.NewRowBuilder(title))
	for _, x := range p {
		b.WithPanel(x)
	}
}
