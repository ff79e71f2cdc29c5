package api

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// svg draws the chart.
func (ch *chart) svg() []byte {
	var b strings.Builder
	text, ground := ch.colours[1], ch.colours[0]
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="sans-serif" font-size="12" fill="%s">`,
		ch.width, ch.height, ch.width, ch.height, text)
	title := html.EscapeString(ch.title)
	fmt.Fprintf(&b, `<title>%s</title><rect width="100%%" height="100%%" fill="%s"/><text x="%d" y="24" text-anchor="middle" font-size="16">%s</text>`, title, ground, ch.width/2, title)
	p := plot{chart: ch, left: 60, top: 40, right: ch.width - 20, bottom: ch.height - 40 - 18*len(ch.series)}
	if ch.xLabels && !ch.form.lying {
		p.bottom -= 50
	}
	if ch.form.lying {
		p.left = 120
	}
	p.bottom, p.right = max(p.bottom, p.top+20), max(p.right, p.left+20)
	for i := range ch.labels {
		sum := int64(0)
		for _, s := range ch.series {
			if ch.form.stacked {
				sum += s.counts[i]
			} else {
				sum = max(sum, s.counts[i])
			}
		}
		p.most = max(p.most, sum)
	}
	p.axes(&b)
	base := make([]int64, len(ch.labels))
	for i := range ch.series {
		p.series(&b, i, base)
		y := ch.height - 18*(len(ch.series)-i)
		fmt.Fprintf(&b, `<rect x="20" y="%d" width="12" height="12" fill="%s"/><text x="38" y="%d">%s</text>`, y-10, ch.colour(i), y, html.EscapeString(ch.series[i].name))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func (ch *chart) colour(i int) string { return ch.colours[2+i%(len(ch.colours)-2)] }

// plot is the part of a chart inside its axes.
type plot struct {
	*chart
	left, top, right, bottom int
	most                     int64
}

// share says how high a count stands, 0 to 1.
func (p *plot) share(n int64) float64 {
	switch {
	case n <= 0 || p.most == 0:
		return 0
	case p.logarithmic:
		return math.Log1p(float64(n)) / math.Log1p(float64(p.most))
	}
	return float64(n) / float64(p.most)
}

// across is where point i stands on the axis of time, and how much room it has.
func (p *plot) across(i int) (at, room float64) {
	from, to := p.left, p.right
	if p.form.lying {
		from, to = p.top, p.bottom
	}
	room = float64(to-from) / float64(len(p.labels))
	return float64(from) + (float64(i)+.5)*room, room
}

// up is where a count stands on the other axis.
func (p *plot) up(n int64) float64 {
	if p.form.lying {
		return float64(p.left) + p.share(n)*float64(p.right-p.left)
	}
	return float64(p.bottom) - p.share(n)*float64(p.bottom-p.top)
}

func (p *plot) axes(b *strings.Builder) {
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="%s"/>`, p.left, p.top, p.bottom, p.right, p.colours[1])
	if p.yLabels {
		for _, n := range []int64{0, p.most / 2, p.most} {
			if at := p.up(n); p.form.lying {
				fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, at, p.bottom+16, shortNumber(n, p.human))
			} else {
				fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`, p.left-6, at+4, shortNumber(n, p.human))
			}
		}
	}
	if !p.xLabels {
		return
	}
	for i, l := range p.labels {
		if at, _ := p.across(i); p.form.lying {
			fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`, p.left-6, at+4, html.EscapeString(l))
		} else {
			fmt.Fprintf(b, `<text transform="translate(%.1f %d) rotate(-35)" text-anchor="end">%s</text>`, at, p.bottom+16, html.EscapeString(l))
		}
	}
}

// series draws one series on top of base where the chart is stacked.
func (p *plot) series(b *strings.Builder, k int, base []int64) {
	var points []string
	s := p.chart.series[k]
	for i, n := range s.counts {
		from := int64(0)
		if p.form.stacked {
			from = base[i]
			base[i] += n
		}
		at, room := p.across(i)
		low, high := p.up(from), p.up(from+n)
		tip := fmt.Sprintf(`<title>%s, %s: %d</title>`, html.EscapeString(s.name), html.EscapeString(p.labels[i]), n)
		switch {
		case p.form.bars:
			width := room * .8
			begin := at - width/2
			if !p.form.stacked {
				width /= float64(len(p.chart.series))
				begin += float64(k) * width
			}
			if p.form.lying {
				fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s">%s</rect>`, low, begin, high-low, width, p.colour(k), tip)
			} else {
				fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s">%s</rect>`, begin, high, width, low-high, p.colour(k), tip)
			}
		case p.form.dots:
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s">%s</circle>`, at, high, 2+8*p.share(n), p.colour(k), tip)
		default:
			points = append(points, fmt.Sprintf("%.1f %.1f", at, high))
			if p.dots {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s">%s</circle>`, at, high, p.colour(k), tip)
			}
		}
	}
	if points == nil {
		return
	}
	fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(points, "L"), p.colour(k))
	if first, _ := p.across(0); p.fill {
		last, _ := p.across(len(points) - 1)
		fmt.Fprintf(b, `<path d="M%.1f %dL%sL%.1f %dZ" fill="%s" fill-opacity=".3"/>`, first, p.bottom, strings.Join(points, "L"), last, p.bottom, p.colour(k))
	}
}
