// Numbers over time: lines, and bars that stand upon each other.

import { h, s } from "./dom";
import { Pointed } from "./pointed";
import { Tick, roundTicks, timeTicks } from "./time";
import { Head, Table, keyText, reasons, seconds } from "./widget";

interface Series { key: Record<string, string>; other?: boolean; counts: (number | null)[]; total: number }
interface Columns extends Head { times: number[]; series: Series[] }

const HEIGHT = 208;
const TOP = 12;
const BOTTOM = 24;
const COLOURS = 8;

const stepSeconds: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400, w: 604800, M: 2592000, y: 31536000 };

abstract class Chart extends Pointed<Columns> {
  private x: number[] = [];
  private y = (n: number) => n;
  private cursor?: Element; // where the mouse is, with a dot on each line
  private dots: Element[] = [];
  private left = 0;

  protected path(): string | undefined {
    const more: Record<string, string> = this.getAttribute("step") ? {} : { max_points: String(this.most()) };
    if (this.getAttribute("group-by")) {
      more.other = "1";
      if (!this.getAttribute("top")) more.top = "6";
    }
    return this.metric && "metrics/" + encodeURIComponent(this.metric) + "/series" +
      this.query({ step: "step", "group-by": "group_by", top: "top" }, this.getAttribute("group-by") ? more : { ...more });
  }

  protected abstract most(): number;
  protected abstract largest(d: Columns): number;
  protected abstract shapes(d: Columns, x: (i: number) => number, y: (n: number) => number, slot: number, open: number): Element[];
  protected abstract place(last: boolean, n: number, slot: number, i: number): number;

  protected height(): number { return HEIGHT; }
  protected points(): number { return this.data?.times.length ?? 0; }
  protected colour(i: number, one: Series): string { return one.other ? "var(--c7)" : `var(--c${i % (COLOURS - 1)})`; }
  protected name(one: Series): string { return one.other ? "others" : keyText(one.key); }
  protected sum(): string { return this.format.number(this.total()) + " in all"; }

  private total(): number { return this.data!.series.reduce((n, l) => n + l.total, 0); }

  protected step(): number {
    const m = /^(\d+)([a-zA-Z]+)/.exec(this.data?.step ?? "");
    return m ? Number(m[1]) * (stepSeconds[m[2] === "mo" ? "M" : m[2]] ?? 60) : 60;
  }

  protected summary(): string {
    const d = this.data!;
    const n = this.format;
    const name = this.getAttribute("title") || this.metric;
    const window = n.window(seconds(d.from), seconds(d.to));
    if (d.series.length < 2) return `${name}, ${window}: ${n.number(this.total())} in all, at most ${n.number(this.largest(d))} in ${d.step}.`;
    return `${name}, ${window}, ${d.series.length} lines; the largest is ${this.name(d.series[0])} with ${n.number(d.series[0].total)}.`;
  }

  protected table(): Table {
    const d = this.data!;
    const names = d.series.map((l) => this.name(l) || "count");
    return {
      head: ["Start (" + d.tz + ")", ...names], numbers: [false, ...names.map(() => true)],
      rows: d.times.map((t, i) => [this.format.moment(t, this.step()), ...d.series.map((l) => (l.counts[i] == null ? "–" : this.format.number(l.counts[i]!)))]).reverse(),
    };
  }

  /** The first point that isn't complete yet, their number where all are. */
  private firstOpen(d: Columns): number {
    const from = Math.min(...(d.incomplete ?? []).filter((i) => i.reason === "open").map((i) => seconds(i.from)));
    const i = d.times.findIndex((t) => t >= from);
    return i < 0 ? d.times.length : i;
  }

  protected take(body: Columns): boolean {
    body.series = body.series.filter((l) => !l.other || l.total); // no others, no line for them
    return super.take(body);
  }

  protected draw(width: number): void {
    const d = this.data!;
    if (!d.series.some((l) => l.counts.some(Boolean))) {
      this.body.replaceChildren(h("p", { class: "empty" }, "Nothing was counted in this window. Try a longer one, or fewer conditions."));
      return;
    }
    const f = this.format;
    const ticks = roundTicks(this.largest(d), 4);
    const labels = ticks.map((v) => f.compact(v));
    this.left = Math.max(...labels.map((l) => l.length)) * 6.4 + 8;
    const n = d.times.length;
    const atLine = this instanceof Line && d.series.length > 1 && width > 520;
    const right = atLine ? Math.min(160, Math.max(...d.series.map((l) => this.name(l).length)) * 6.2 + 14) : 8;
    const inner = width - this.left - right;
    const slot = inner / n;
    const x = (i: number) => this.left + this.place(i === n - 1, n, slot, i);
    const high = ticks[ticks.length - 1];
    const y = (v: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / high);
    this.x = d.times.map((_, i) => x(i));
    const svg = s("svg", { width, height: HEIGHT, "aria-hidden": "true" });
    ticks.forEach((v, i) => svg.append(
      s("line", { class: "grid", x1: this.left, x2: width - right, y1: Math.round(y(v)), y2: Math.round(y(v)) }),
      s("text", { x: this.left - 6, y: y(v) + 4, "text-anchor": "end" }, labels[i])));
    this.shade(svg, d, x, slot);
    for (const t of this.ticks(d, inner)) {
      const i = d.times.indexOf(t.at);
      const px = this.x[i];
      if (px > this.left + 12 && px < width - right - 8) svg.append(s("text", { x: px, y: HEIGHT - 6, "text-anchor": "middle" }, t.text));
    }
    svg.append(...this.shapes(d, x, y, slot, this.firstOpen(d)));
    this.y = y;
    this.dots = this instanceof Line ? d.series.map((l, k) => {
      const e = s("circle", { r: 3.5, class: "dotted" });
      (e as SVGElement).style.fill = this.colour(k, l);
      return e;
    }) : [];
    this.cursor = s("g", { visibility: "hidden" }, s("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM }), ...this.dots);
    svg.append(this.cursor);
    if (atLine) this.atLines(svg, d, y, width - right + 6, right - 8);
    this.show(svg, ...(d.series.length > 1 && !atLine ? [this.legend(d)] : []));
  }

  private ticks(d: Columns, inner: number): Tick[] { return timeTicks(this.format, d.times, Math.max(2, Math.floor(inner / 76))); }

  /** Ranges whose numbers aren't all there. */
  private shade(svg: Element, d: Columns, x: (i: number) => number, slot: number): void {
    for (const r of d.incomplete ?? []) {
      if (r.reason === "open" || r.reason === "lagging") continue;
      const [from, to] = [seconds(r.from), seconds(r.to)];
      const inside = d.times.map((t, i) => (t < to && (d.times[i + 1] ?? seconds(d.to)) > from ? i : -1)).filter((i) => i >= 0);
      if (!inside.length) continue;
      const a = x(inside[0]);
      svg.append(s("rect", { class: "shade", x: a, y: TOP, width: Math.max(slot, x(inside[inside.length - 1]) - a), height: HEIGHT - TOP - BOTTOM }, s("title", {}, reasons[r.reason] ?? r.reason)));
    }
  }

  /** Names where the lines end, moved apart where they would cover each other. */
  private atLines(svg: Element, d: Columns, y: (n: number) => number, x: number, room: number): void {
    const last = Math.max(0, Math.min(d.times.length, this.firstOpen(d)) - 1); // the open point says little yet
    const names = d.series.map((l, i) => ({ l, i, y: y(l.counts[last] ?? 0) + 4 })).sort((a, b) => a.y - b.y);
    const most = Math.floor((HEIGHT - BOTTOM) / 13);
    names.length = Math.min(names.length, most);
    for (let k = names.length - 1, limit = HEIGHT - BOTTOM + 4; k >= 0; k--) limit = (names[k].y = Math.min(names[k].y, limit)) - 13;
    for (let k = 0, limit = TOP; k < names.length; k++) limit = (names[k].y = Math.max(names[k].y, limit)) + 13;
    for (const { l, i, y: at } of names) {
      const name = this.name(l);
      const text = s("text", { class: "name", x, y: at }, name.length * 6.2 > room ? name.slice(0, Math.floor(room / 6.2) - 1) + "…" : name);
      (text as SVGElement).style.fill = this.colour(i, l);
      svg.append(text);
    }
  }

  private legend(d: Columns): Element {
    return h("ul", { class: "legend" }, ...d.series.map((l, i) => {
      const k = h("i");
      k.style.setProperty("--k", this.colour(i, l));
      return h("li", {}, k, h("bdi", {}, this.name(l)));
    }));
  }

  protected near(e: PointerEvent): number {
    const px = e.clientX - this.box.getBoundingClientRect().left;
    let best = -1;
    this.x.forEach((v, i) => { if (best < 0 || Math.abs(v - px) < Math.abs(this.x[best] - px)) best = i; });
    return best;
  }

  protected mark(i: number) {
    const d = this.data!;
    this.cursor?.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    if (i < 0 || !d) return undefined;
    this.cursor?.setAttribute("transform", `translate(${this.x[i]})`);
    this.dots.forEach((e, k) => {
      const v = d.series[k].counts[i];
      e.setAttribute("cy", String(this.y(v ?? 0)));
      e.setAttribute("visibility", v == null ? "hidden" : "inherit");
    });
    const many = d.series.length > 1;
    const value = (n: number | null) => (n == null ? "–" : this.format.number(n));
    const rows = d.series.map((l, k) => ({ n: l.counts[i], name: this.name(l), text: value(l.counts[i]), colour: many ? this.colour(k, l) : undefined })).sort((a, b) => (b.n ?? 0) - (a.n ?? 0));
    if (many) rows.push({ n: 0, name: "all", text: value(rows.reduce((n, r) => n + (r.n ?? 0), 0)), colour: undefined });
    return { x: this.x[i], y: TOP, title: this.format.moment(d.times[i], this.step()) + (i >= this.firstOpen(d) ? " (still running)" : ""), rows };
  }

  protected choose(i: number): void {
    if (i >= 0) this.select({ time: this.data!.times[i], end: this.data!.times[i + 1] ?? seconds(this.data!.to), step: this.data!.step, tz: this.data!.tz, filter: this.getAttribute("filter") ?? "" });
  }
}

/** <statscache-line> */
export class Line extends Chart {
  protected most(): number { return 400; }
  protected largest(d: Columns): number { return Math.max(0, ...d.series.map((l) => l.counts.reduce((a: number, b) => Math.max(a, b ?? 0), 0))); }
  protected place(_last: boolean, n: number, slot: number, i: number): number { return n < 2 ? slot / 2 : (i * slot * n) / (n - 1); }

  protected shapes(d: Columns, x: (i: number) => number, y: (n: number) => number, _slot: number, open: number): Element[] {
    const out: Element[] = [];
    d.series.forEach((l, k) => {
      const part = (from: number, to: number) => {
        let path = "";
        let pen = false;
        for (let i = from; i < to; i++) {
          const v = l.counts[i];
          if (v != null) path += (pen ? "L" : "M") + x(i).toFixed(1) + " " + y(v).toFixed(1);
          pen = v != null;
        }
        return path;
      };
      const solid = part(0, open);
      if (d.series.length === 1 && open > 1 && !l.counts.includes(null)) {
        const area = s("path", { class: "area", d: `${solid}L${x(open - 1)} ${y(0)}L${x(0)} ${y(0)}Z` });
        (area as SVGElement).style.fill = this.colour(k, l);
        out.push(area);
      }
      for (const [path, css] of [[solid, "s"], [open < l.counts.length ? part(Math.max(0, open - 1), l.counts.length) : "", "s open"]]) {
        if (!path) continue;
        const p = s("path", { class: css, d: path });
        (p as SVGElement).style.stroke = this.colour(k, l);
        out.unshift(p);
      }
      if (l.counts.length === 1) out.push(s("circle", { cx: x(0), cy: y(l.counts[0] ?? 0), r: 3, fill: "currentColor" }));
    });
    return out;
  }
}

/** <statscache-bars> */
export class Bars extends Chart {
  protected most(): number { return 60; }

  protected largest(d: Columns): number {
    return Math.max(0, ...d.times.map((_, i) => d.series.reduce((n, l) => n + (l.counts[i] ?? 0), 0)));
  }

  protected place(_last: boolean, _n: number, slot: number, i: number): number { return (i + 0.5) * slot; }

  protected shapes(d: Columns, x: (i: number) => number, y: (n: number) => number, slot: number, open: number): Element[] {
    const out: Element[] = [];
    const width = Math.max(1, slot - Math.min(3, slot * 0.25));
    d.times.forEach((_, i) => {
      let below = 0;
      d.series.forEach((l, k) => {
        const v = l.counts[i] ?? 0;
        if (!v) return;
        const bar = s("rect", { class: i < open ? "bar" : "bar part", x: (x(i) - width / 2).toFixed(1), width: width.toFixed(1), y: y(below + v).toFixed(1), height: (y(below) - y(below + v)).toFixed(1) });
        (bar as SVGElement).style.fill = this.colour(k, l);
        out.push(bar);
        below += v;
      });
    });
    return out;
  }
}
