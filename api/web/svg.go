package web

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// svgStyle is the look of all pictures. It is one constant text, so that the policy can name its hash.
const svgStyle = `svg{--card:#fff;--ink:#1a2233;--soft:#566074;--line:#e1e5ec;--c0:#2a5db0;--c1:#ad5000;--c2:#00735d;--c3:#a1458a;--c4:#806c00;--c5:#2b8cc4;--c6:#8b3a2b;--c7:#5b6478;` +
	`--l0:#ebeef3;--l1:#b9cfee;--l2:#7ba5de;--l3:#3b73bd;--l4:#153f80;font:11px system-ui,"Segoe UI",Verdana,sans-serif}` +
	`svg.dark{--card:#141a26;--ink:#e6eaf2;--soft:#a0aabd;--line:#2b3446;--c0:#6ea3ee;--c1:#f2a154;--c2:#3fc4a8;--c3:#e08fcb;--c4:#d8c24a;--c5:#8fd0f5;--c6:#ea9a86;--c7:#a0aabd;--l0:#1f2735;--l1:#23406b;--l2:#3a67a8;--l3:#6b9fe6;--l4:#b5d4fb}` +
	`@media(prefers-color-scheme:dark){svg.auto{--card:#141a26;--ink:#e6eaf2;--soft:#a0aabd;--line:#2b3446;--c0:#6ea3ee;--c1:#f2a154;--c2:#3fc4a8;--c3:#e08fcb;--c4:#d8c24a;--c5:#8fd0f5;--c6:#ea9a86;--c7:#a0aabd;--l0:#1f2735;--l1:#23406b;--l2:#3a67a8;--l3:#6b9fe6;--l4:#b5d4fb}}` +
	`text{fill:var(--soft);font-variant-numeric:tabular-nums}.t{fill:var(--ink);font-size:14px;font-weight:600}.big{fill:var(--ink);font-size:32px;font-weight:600}.i{fill:var(--ink)}.card{fill:var(--card);stroke:var(--line)}.g{stroke:var(--line)}` +
	`.s{fill:none;stroke-width:1.75;stroke-linejoin:round}.o{stroke-dasharray:3 4}.p{opacity:.5}.w{opacity:.16}.l0{fill:var(--l0)}.l1{fill:var(--l1)}.l2{fill:var(--l2)}.l3{fill:var(--l3)}.l4{fill:var(--l4)}` +
	`.k0{stroke:var(--c0)}.k1{stroke:var(--c1)}.k2{stroke:var(--c2)}.k3{stroke:var(--c3)}.k4{stroke:var(--c4)}.k5{stroke:var(--c5)}.k6{stroke:var(--c6)}.k7{stroke:var(--c7)}` +
	`.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}`

// svgPolicy lets a picture use its own style and nothing else.
func svgPolicy() string {
	sum := sha256.Sum256([]byte(svgStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// drawing is an SVG being written.
type drawing struct {
	strings.Builder
	width, height int
}

// newDrawing begins a card with a title, described for those who don't see it.
func newDrawing(width, height int, theme, title, summary string) *drawing {
	d := &drawing{width: width, height: height}
	if theme != "light" && theme != "dark" {
		theme = "auto"
	}
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" class="%s" role="img" aria-labelledby="t d"><title id="t">%s</title><desc id="d">%s</desc><style>%s</style>`,
		width, height, width, height, theme, esc(title), esc(summary), svgStyle)
	d.add(`<rect class="card" x=".5" y=".5" width="%d" height="%d" rx="8"/>`, width-1, height-1)
	return d
}

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format, args...) }

func (d *drawing) text(x, y float64, class, anchor, text string) {
	d.add(`<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`, num(x), num(y), class, anchor, esc(text))
}

// head writes the title at the left and a sum at the right.
func (d *drawing) head(title, sum string) {
	d.text(16, 26, "t", "start", short(title, (d.width-60-7*utf8.RuneCountInString(sum))/8))
	d.text(float64(d.width-16), 26, "", "end", sum)
}

// foot says which window, in which zone and how fresh.
func (d *drawing) foot(text string) {
	d.text(16, float64(d.height-10), "", "start", short(text, (d.width-32)*2/11))
}

func (d *drawing) end() []byte {
	d.WriteString("</svg>\n")
	return []byte(d.String())
}

// esc makes a text part of XML: what XML can't hold is replaced.
func esc(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0xFFFE || r == 0xFFFF {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
}

func num(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }

// short cuts a text to so many letters.
func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(0, n-1)]) + "…"
}

// thousands writes a number with separators.
func thousands[T int | int64 | uint64](n T) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// compact writes a number in few letters.
func compact(n float64) string {
	for _, u := range []struct {
		least float64
		name  string
	}{{1e9, "B"}, {1e6, "M"}, {1e4, "K"}} {
		if math.Abs(n) >= u.least {
			by := u.least
			if u.name == "K" {
				by = 1e3
			}
			return strings.TrimSuffix(strconv.FormatFloat(n/by, 'f', 1, 64), ".0") + u.name
		}
	}
	return thousands(int64(n))
}

// roundTicks gives few round numbers from 0 to the largest or above.
func roundTicks(most float64, about int) []float64 {
	raw := max(most, 1) / float64(about)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw {
			step = m * power
			break
		}
	}
	step = max(step, 1)
	var out []float64
	for v := 0.0; v < most+step || len(out) < 2; v += step {
		out = append(out, v)
	}
	return out
}

// timeTick is a text below a point.
type timeTick struct {
	point int
	text  string
}

// timeTicks chooses the points where a larger unit of the local calendar begins, at most so many.
func timeTicks(times []int64, loc *time.Location, most int) []timeTick {
	day := func(t time.Time) int64 { return t.Unix() + int64(offset(t)) }
	for _, u := range []struct {
		of     func(time.Time) int64
		layout string
	}{
		{func(t time.Time) int64 { return t.Unix() / 15 }, "15:04:05"},
		{func(t time.Time) int64 { return t.Unix() / 60 }, "15:04"},
		{func(t time.Time) int64 { return t.Unix() / 300 }, "15:04"},
		{func(t time.Time) int64 { return t.Unix() / 900 }, "15:04"},
		{func(t time.Time) int64 { return day(t) / 3600 }, "15:04"},
		{func(t time.Time) int64 { return day(t) / (6 * 3600) }, "Jan 2 15:04"},
		{func(t time.Time) int64 { return day(t) / 86400 }, "Jan 2"},
		{func(t time.Time) int64 { return (day(t)/86400 + 3) / 7 }, "Jan 2"},
		{func(t time.Time) int64 { return int64(t.Year()*12 + int(t.Month())) }, "Jan"},
		{func(t time.Time) int64 { return int64(t.Year()*4 + int(t.Month()-1)/3) }, "Jan 2006"},
		{func(t time.Time) int64 { return int64(t.Year()) }, "2006"},
		{func(t time.Time) int64 { return int64(t.Year() / 10) }, "2006"},
	} {
		var out []timeTick
		for i := 1; i < len(times) && len(out) <= most; i++ {
			t := time.Unix(times[i], 0).In(loc)
			if u.of(t) != u.of(time.Unix(times[i-1], 0).In(loc)) {
				out = append(out, timeTick{i, t.Format(u.layout)})
			}
		}
		if len(out) > 0 && len(out) <= most {
			return out
		}
	}
	return nil
}

func offset(t time.Time) int { _, o := t.Zone(); return o }

// zoneOf finds the zone that an answer names.
func zoneOf(name string) *time.Location {
	if loc, err := time.LoadLocation(name); err == nil {
		return loc
	}
	return time.UTC
}

// foot describes a window as every picture does.
func (h head) foot() string {
	loc := zoneOf(h.TZ)
	from, to := h.From.In(loc), h.To.In(loc)
	window := from.Format("2 Jan 2006 15:04") + " – " + to.Format("2 Jan 2006 15:04")
	if from.Hour()+from.Minute()+to.Hour()+to.Minute() == 0 {
		window = from.Format("2 Jan 2006") + " – " + to.Add(-time.Second).Format("2 Jan 2006")
	}
	out := window + " · " + loc.String() + " · as of " + h.AsOf.In(loc).Format("2 Jan 15:04:05")
	said := map[string]bool{}
	for _, i := range h.Incomplete {
		if !said[i.Reason] {
			out += " · " + lacking(i.Reason)
		}
		said[i.Reason] = true
	}
	return out
}

// lacking says in words why numbers aren't all there is, as the widgets do.
func lacking(reason string) string {
	switch reason {
	case "open":
		return "still running"
	case "lagging":
		return "the newest events are being counted"
	case "gap":
		return "not complete: messages are missing"
	case "backfilling":
		return "not complete: history is being fetched"
	case "expired":
		return "not complete: the oldest numbers are deleted"
	}
	return "not complete (" + reason + ")"
}
