package web

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// seriesSVG draws lines, or bars that stand upon each other.
func seriesSVG(d columns, title, theme string, bars bool) []byte {
	const width, height, top, bottom = 720, 280, 44, 52
	d.Series = slices.DeleteFunc(d.Series, func(l line) bool { return l.Other && l.Total == 0 }) // no others, no line for them
	total, most := int64(0), int64(0)
	for _, l := range d.Series {
		total += l.Total
	}
	for i := range d.Times {
		sum := int64(0)
		for _, l := range d.Series {
			if v := at(l.Counts, i); bars {
				sum += v
			} else {
				sum = max(sum, v)
			}
		}
		most = max(most, sum)
	}
	g := newDrawing(width, height, theme, title, fmt.Sprintf("%s in all. %s", thousands(total), d.foot()))
	g.head(title, thousands(total)+" in all")
	g.foot(d.foot())
	if len(d.Times) == 0 || len(d.Series) == 0 {
		g.text(width/2, height/2, "", "middle", "Nothing was counted in this window.")
		return g.end()
	}
	ticks := roundTicks(float64(most), 4)
	left := 0.0
	for _, v := range ticks {
		left = max(left, float64(len(compact(v)))*6.4+24)
	}
	right := 16.0
	if len(d.Series) > 1 {
		for _, l := range d.Series {
			right = min(150, max(right, float64(utf8.RuneCountInString(l.Name()))*6.2+24))
		}
	}
	inner, n := width-left-right, len(d.Times)
	slot := inner / float64(n)
	x := func(i int) float64 {
		if bars || n < 2 {
			return left + (float64(i)+.5)*slot
		}
		return left + float64(i)*inner/float64(n-1)
	}
	y := func(v int64) float64 {
		return top + (height-top-bottom)*(1-float64(v)/ticks[len(ticks)-1])
	}
	for _, v := range ticks {
		g.add(`<path class="g" d="M%s %sH%s"/>`, num(left), num(y(int64(v))), num(width-right))
		g.text(left-6, y(int64(v))+4, "", "end", compact(v))
	}
	for _, tick := range timeTicks(d.Times, zoneOf(d.TZ), int(inner/76)) {
		if px := x(tick.point); px > left+16 && px < width-right-16 {
			g.text(px, height-32, "", "middle", tick.text)
		}
	}
	open := d.openFrom()
	if bars {
		drawBars(g, d, x, y, slot, open)
	} else {
		drawLines(g, d, x, y, open)
	}
	names := labels(d, y, height-bottom, max(0, open-1), bars)
	for _, l := range names {
		g.text(width-right+8, l.y, "f"+colour(d.Series[l.i], l.i), "start", short(d.Series[l.i].Name(), int((right-16)/6.2)))
	}
	return g.end()
}

// openFrom is the first point that isn't over yet, their number where all are.
func (d columns) openFrom() int {
	open := len(d.Times)
	for _, i := range d.Incomplete {
		if i.Reason == "open" {
			if k := slices.IndexFunc(d.Times, func(t int64) bool { return t >= i.From.Unix() }); k >= 0 {
				open = k
			}
		}
	}
	return open
}

func at(counts []*int64, i int) int64 {
	if i >= len(counts) || counts[i] == nil {
		return 0
	}
	return *counts[i]
}

// colour is the number of a series' colour: the rest has one of its own.
func colour(l line, i int) string {
	if l.Other {
		return "7"
	}
	return strconv.Itoa(i % 7)
}

func drawLines(g *drawing, d columns, x func(int) float64, y func(int64) float64, open int) {
	for k := len(d.Series) - 1; k >= 0; k-- {
		l := d.Series[k]
		for _, part := range []struct {
			from, to int
			class    string
		}{{0, open, "s"}, {max(0, open-1), len(d.Times), "s o"}} {
			if part.class == "s o" && open == len(d.Times) {
				continue
			}
			var path strings.Builder
			pen := false
			for i := part.from; i < part.to; i++ {
				if i >= len(l.Counts) || l.Counts[i] == nil {
					pen = false
					continue
				}
				move := "M"
				if pen {
					move = "L"
				}
				path.WriteString(move + num(x(i)) + " " + num(y(*l.Counts[i])))
				pen = true
			}
			if path.Len() > 0 {
				g.add(`<path class="%s k%s" d="%s"/>`, part.class, colour(l, k), path.String())
			}
		}
	}
}

func drawBars(g *drawing, d columns, x func(int) float64, y func(int64) float64, slot float64, open int) {
	width := max(1, slot-min(3, slot/4))
	for i := range d.Times {
		below := int64(0)
		for k, l := range d.Series {
			v := at(l.Counts, i)
			if v <= 0 {
				continue
			}
			class := "f" + colour(l, k)
			if i >= open {
				class += " p"
			}
			g.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, num(x(i)-width/2), num(y(below+v)), num(width), num(y(below)-y(below+v)))
			below += v
		}
	}
}

type label struct {
	i int
	y float64
}

// labels gives where names stand beside the values at a point, moved apart where they would cover each other.
func labels(d columns, y func(int64) float64, lowest float64, last int, stacked bool) []label {
	if len(d.Series) < 2 {
		return nil
	}
	var out []label
	for i, l := range d.Series {
		v := y(at(l.Counts, last)) + 4
		if stacked {
			v = lowest - float64(i)*14
		}
		out = append(out, label{i, v})
	}
	slices.SortFunc(out, func(a, b label) int { return int(a.y - b.y) })
	limit := lowest + 4
	for i := len(out) - 1; i >= 0; i-- {
		out[i].y = min(out[i].y, limit)
		limit = out[i].y - 13
	}
	return out
}

// calendarSVG draws a column a week, weeks beginning on Monday.
func calendarSVG(d days, title, theme string) []byte {
	const pitch, left, top = 13, 48, 62
	shift, weeks := 0, 1
	if len(d.Days) > 0 {
		if t, err := time.Parse(time.DateOnly, d.Days[0].Date); err == nil {
			shift = (int(t.Weekday()) + 6) % 7
		}
		weeks = (len(d.Days) + shift + 6) / 7
	}
	width := max(360, left+weeks*pitch+16)
	g := newDrawing(width, top+7*pitch+32, theme, title, fmt.Sprintf("%s in all. %s", thousands(d.Total), d.foot()))
	g.head(title, thousands(d.Total)+" in all")
	g.foot(d.foot())
	for i, name := range []string{"", "Tue", "", "Thu", "", "Sat"} {
		if name != "" {
			g.text(left-6, float64(top+i*pitch+9), "", "end", name)
		}
	}
	month, free := "", 0
	for i, day := range d.Days {
		px, py := left+(i+shift)/7*pitch, top+(i+shift)%7*pitch
		if len(day.Date) >= 7 && day.Date[:7] != month {
			month = day.Date[:7]
			if t, err := time.Parse(time.DateOnly, day.Date); err == nil && px >= free && t.Day() < 20 {
				g.text(float64(px), top-8, "", "start", t.Format("Jan"))
				free = px + 30
			}
		}
		g.add(`<rect class="l%d" x="%d" y="%d" width="10" height="10" rx="2"><title>%s: %s</title></rect>`, min(4, max(0, day.Level)), px, py, esc(day.Date), thousands(day.Count))
	}
	return g.end()
}

// topSVG draws the largest groups as bars under their names.
func topSVG(d topRows, title, theme string) []byte {
	const width, row, top = 480, 24, 44
	g := newDrawing(width, top+max(1, len(d.Rows))*row+28, theme, title, fmt.Sprintf("%s in all. %s", thousands(d.Total), d.foot()))
	g.head(title, thousands(d.Total)+" in all")
	g.foot(d.foot())
	if len(d.Rows) == 0 {
		g.text(16, top+16, "", "start", "Nothing was counted in this window.")
	}
	for i, r := range d.Rows {
		py := float64(top + i*row)
		g.add(`<rect class="f0 w" x="16" y="%s" width="%s" height="%d" rx="4"/>`, num(py), num(float64(r.Count)/float64(max(1, d.Rows[0].Count))*(width-32)), row-3)
		g.text(24, py+15, "i", "start", short(keyText(r.Key), 52))
		g.text(width-24, py+15, "i", "end", thousands(r.Count))
	}
	return g.end()
}

// numberSVG draws one number.
func numberSVG(text, title, foot, theme string) []byte {
	g := newDrawing(360, 112, theme, title, text+". "+foot)
	g.head(title, "")
	g.text(16, 72, "big", "start", text)
	g.foot(foot)
	return g.end()
}

// sayingSVG is a picture that says why there is none.
func sayingSVG(title, text, theme string) []byte {
	g := newDrawing(480, 96, theme, title, text)
	g.head(title, "")
	for i, part := range wrap(text, 72, 2) {
		g.text(16, float64(52+i*18), "", "start", part)
	}
	return g.end()
}

// wrap cuts a text into lines of at most so many letters.
func wrap(text string, width, most int) []string {
	var out []string
	now := ""
	for word := range strings.FieldsSeq(text) {
		if now != "" && utf8.RuneCountInString(now)+1+utf8.RuneCountInString(word) > width {
			out, now = append(out, now), ""
		}
		now = strings.TrimSpace(now + " " + word)
	}
	if out = append(out, now); len(out) > most {
		out = out[:most]
		out[most-1] += " …"
	}
	for i := range out {
		out[i] = short(out[i], width)
	}
	return out
}

// spark draws a line without axes, for the lists of pages: it takes the colour of its text.
func spark(d columns) string {
	const width, height = 160, 32
	if n := len(d.Times); n > 2 && d.openFrom() == n-1 {
		d.Times = d.Times[:n-1] // a bucket that has just begun would look like a fall
	}
	if len(d.Series) == 0 || len(d.Times) < 2 {
		return ""
	}
	most := int64(1)
	for i := range d.Times {
		most = max(most, at(d.Series[0].Counts, i))
	}
	var path strings.Builder
	for i := range d.Times {
		path.WriteString(map[bool]string{true: "M", false: "L"}[i == 0])
		path.WriteString(num(float64(i)/float64(len(d.Times)-1)*width) + " " + num(2+(height-4)*(1-float64(at(d.Series[0].Counts, i))/float64(most))))
	}
	return fmt.Sprintf(`<svg class="spark" viewBox="0 0 %d %d" preserveAspectRatio="none" aria-hidden="true" focusable="false"><path d="%s"/></svg>`, width, height, path.String())
}
