package api

import (
	"strings"
)

// seriesRows is a series with a row each point and group, by time.
func (a *asking) seriesRows(p *plan, lines []seriesOf) *sheet {
	n := len(p.points) * len(lines)
	begin, end, counts := make([]int64, 0, n), make([]int64, 0, n), sheetColumn{name: "count", numbers: make([]int64, 0, n)}
	dims := make([]sheetColumn, len(a.by))
	for i, dim := range a.by {
		dims[i] = sheetColumn{name: a.metric.Dimensions[dim].Name, texts: make([]string, 0, n)}
	}
	for j, pt := range p.points {
		for _, l := range lines {
			begin, end = append(begin, pt.time), append(end, pt.end)
			for i := range dims {
				dims[i].texts = append(dims[i].texts, l.Key[dims[i].name])
			}
			counts.numbers = append(counts.numbers, l.Counts.counts[j])
			if a.fillNull {
				counts.null = append(counts.null, l.Counts.null[j])
			}
		}
	}
	columns := append([]sheetColumn{times("time", begin), times("time_end", end)}, dims...)
	return &sheet{columns: append(columns, counts), rows: n}
}

// seriesSheet is a series with a row each point and a column each group.
func (a *asking) seriesSheet(p *plan, lines []seriesOf) *sheet {
	begin, end := make([]int64, len(p.points)), make([]int64, len(p.points))
	for j, pt := range p.points {
		begin[j], end[j] = pt.time, pt.end
	}
	columns := []sheetColumn{times("time", begin), times("time_end", end)}
	for _, l := range lines {
		names := make([]string, 0, len(a.by))
		for _, dim := range a.by {
			names = append(names, l.Key[a.metric.Dimensions[dim].Name])
		}
		if len(names) == 0 {
			names = []string{"count"}
		}
		columns = append(columns, sheetColumn{name: strings.Join(names, "/"), numbers: l.Counts.counts, null: l.Counts.null})
	}
	return &sheet{columns: columns, rows: len(p.points)}
}
