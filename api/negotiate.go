package api

import (
	"strconv"
	"strings"
)

// mediaRange is one part of an Accept header.
type mediaRange struct {
	kind, sub string // "*" for any
	q         float64
}

// accept is an Accept header taken apart; everything is acceptable where there is none.
type accept []mediaRange

// maxRanges bounds how much of an Accept header is looked at.
const maxRanges = 32

func parseAccept(header string) accept {
	if strings.TrimSpace(header) == "" {
		return accept{{"*", "*", 1}}
	}
	var out accept
	for part := range strings.SplitSeq(header, ",") {
		if len(out) == maxRanges {
			break
		}
		media, params, _ := strings.Cut(part, ";")
		kind, sub, ok := strings.Cut(strings.ToLower(strings.TrimSpace(media)), "/")
		if !ok && kind == "*" {
			sub, ok = "*", true // some old clients say * for */*
		}
		if ok {
			out = append(out, mediaRange{kind, sub, quality(params)})
		}
	}
	return out
}

// quality reads q out of the parameters of a range: 1 where there is none, 0 where it makes no sense.
func quality(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(q >= 0) {
				return 0
			}
			return min(q, 1)
		}
	}
	return 1
}

// match says which ranges may speak for a type.
type match int

const (
	exact     match = iota // only the type itself
	typed                  // type/* too
	wildcards              // */* too
)

// quality is what the most specific range says of a type, 0 for none.
func (a accept) quality(mime string, m match) float64 {
	kind, sub, _ := strings.Cut(mime, "/")
	best, q := 0, 0.0
	for _, r := range a {
		rank := 0
		switch {
		case r.kind == kind && r.sub == sub:
			rank = 3
		case r.kind == kind && r.sub == "*" && m >= typed:
			rank = 2
		case r.kind == "*" && r.sub == "*" && m >= wildcards:
			rank = 1
		}
		if rank > best || rank == best && rank > 0 && r.q > q {
			best, q = rank, r.q
		}
	}
	return q
}

// format is a representation of rows.
type format int

const (
	notAcceptable format = iota
	formatJSON
	formatJSONP
	formatCSV    // text/csv
	formatAppCSV // application/csv, the same bytes
	formatNDJSON // a JSON object a line
)

// contentTypes of the formats.
func (f format) contentType() string {
	switch f {
	case formatJSONP:
		return "application/javascript; charset=utf-8"
	case formatCSV:
		return "text/csv; charset=utf-8"
	case formatAppCSV:
		return "application/csv"
	case formatNDJSON:
		return "application/x-ndjson"
	}
	return "application/json"
}

// formatOf chooses as the original does: JSON is also known as text/json and as the types of JavaScript, and comes
// first where a client likes several equally. A callback turns JSON into JSON-P.
func formatOf(header string, callback bool, csv bool) format {
	a := parseAccept(header)
	canonical := "application/json"
	if callback {
		canonical = "application/javascript"
	}
	best, f := a.quality(canonical, wildcards), formatJSON
	for _, alias := range []string{"application/json", "text/json", "application/javascript", "text/javascript"} {
		best = max(best, a.quality(alias, typed))
	}
	if callback {
		f = formatJSONP
	}
	if csv {
		for _, c := range []format{formatCSV, formatAppCSV} {
			mime, _, _ := strings.Cut(c.contentType(), ";")
			if q := a.quality(mime, wildcards); q > best {
				best, f = q, c
			}
		}
	}
	if best <= 0 {
		return notAcceptable
	}
	return f
}

// dataFormat chooses the representation of numbers below /api/v1: what the parameter format names, else what the client
// likes best, JSON first.
func dataFormat(header, named string) (format, error) {
	switch named {
	case "json":
		return formatJSON, nil
	case "csv":
		return formatCSV, nil
	case "ndjson":
		return formatNDJSON, nil
	case "":
	default:
		return 0, badParameter("format", "must be json, csv or ndjson")
	}
	a := parseAccept(header)
	f, best := notAcceptable, 0.0
	for _, o := range []struct {
		mime string
		f    format
	}{{"application/json", formatJSON}, {"text/json", formatJSON}, {"text/csv", formatCSV}, {"application/csv", formatAppCSV},
		{"application/x-ndjson", formatNDJSON}, {"application/ndjson", formatNDJSON}, {"application/jsonl", formatNDJSON}} {
		if q := a.quality(o.mime, wildcards); q > best {
			f, best = o.f, q
		}
	}
	if f == notAcceptable {
		return 0, errNotAcceptable("JSON (application/json), CSV (text/csv) and JSON lines (application/x-ndjson)")
	}
	return f, nil
}
