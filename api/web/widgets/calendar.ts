// A year of days, a column a week.

import { h, s } from "./dom";
import { Pointed } from "./pointed";
import { Head, Table } from "./widget";

interface Day { date: string; count: number; level: number }
interface Days extends Head { total: number; max: number; days: Day[] }

const LEFT = 34;
const TOP = 18;
const GAP = 3;

const utc = (date: string) => Date.parse(date + "T00:00:00Z") / 1000;

/** <statscache-calendar> */
export class Calendar extends Pointed<Days> {
  private cells: { x: number; y: number; e: Element }[] = [];
  private size = 11;

  protected path(): string | undefined { return this.metric && "metrics/" + encodeURIComponent(this.metric) + "/calendar" + this.query({}); }
  protected height(): number { return TOP + 7 * 14 + 20; }
  protected points(): number { return this.data?.days.length ?? 0; }
  protected strides(): [number, number] { return [7, 1]; } // as the eye moves: weeks beside each other, days below
  protected sum(): string { return this.format.number(this.data!.total) + " in all"; }

  protected summary(): string {
    const d = this.data!;
    const best = d.days.reduce((a, b) => (b.count > a.count ? b : a), d.days[0]);
    return `${this.getAttribute("title") || this.metric}: ${this.format.number(d.total)} on ${d.days.length} days` + (best?.count ? `; most, ${this.format.number(best.count)}, on ${this.day(best)}.` : ".");
  }

  // The date is a day already: it must not move with the zone.
  private day(d: Day): string {
    return new Intl.DateTimeFormat(this.format.lang, { timeZone: "UTC", weekday: "short", year: "numeric", month: "short", day: "numeric" }).format(utc(d.date) * 1000);
  }

  private name(date: string, options: Intl.DateTimeFormatOptions): string {
    return new Intl.DateTimeFormat(this.format.lang, { timeZone: "UTC", ...options }).format(utc(date) * 1000);
  }

  protected table(): Table {
    return { head: ["Day (" + this.data!.tz + ")", "Count"], numbers: [false, true], rows: this.data!.days.map((d) => [this.day(d), this.format.number(d.count)]).reverse() };
  }

  protected draw(width: number): void {
    const d = this.data!;
    if (!d.days.length) return;
    const first = this.format.weekStart() % 7;
    const weekday = (date: string) => (new Date(utc(date) * 1000).getUTCDay() - first + 7) % 7;
    const shift = weekday(d.days[0].date);
    const weeks = Math.ceil((d.days.length + shift) / 7);
    const pitch = Math.min(20, Math.max(12, (width - LEFT) / weeks));
    this.size = Math.floor(pitch) - GAP;
    const svg = s("svg", { width: Math.floor(LEFT + weeks * pitch), height: Math.ceil(TOP + 7 * pitch), "aria-hidden": "true" });
    for (const i of [1, 3, 5]) {
      const sample = d.days.find((x) => weekday(x.date) === i);
      if (sample) svg.append(s("text", { x: LEFT - 6, y: TOP + i * pitch + this.size - 1, "text-anchor": "end" }, this.name(sample.date, { weekday: "short" })));
    }
    let month = "";
    let free = 0;
    this.cells = d.days.map((day, i) => {
      const x = Math.round(LEFT + Math.floor((i + shift) / 7) * pitch);
      const y = Math.round(TOP + ((i + shift) % 7) * pitch);
      if (day.date.slice(0, 7) !== month) {
        if (x >= free && (i === 0 ? Number(day.date.slice(8)) < 20 : true)) {
          svg.append(s("text", { x, y: 10 }, this.name(day.date, { month: "short", year: month.slice(0, 4) !== day.date.slice(0, 4) && weeks > 60 ? "numeric" : undefined })));
          free = x + 34;
        }
        month = day.date.slice(0, 7);
      }
      const e = s("rect", { class: "day", x, y, width: this.size, height: this.size });
      (e as SVGElement).style.fill = `var(--l${day.level})`;
      svg.append(e);
      return { x, y, e };
    });
    this.show(svg, this.scale());
  }

  private scale(): Element {
    const squares = [0, 1, 2, 3, 4].map((l) => {
      const k = h("i");
      k.style.setProperty("--k", `var(--l${l})`);
      return k;
    });
    return h("p", { class: "legend scale", "aria-hidden": "true" }, "less", ...squares, "more");
  }

  protected near(e: PointerEvent): number {
    const box = this.box.getBoundingClientRect();
    const [x, y] = [e.clientX - box.left + this.box.scrollLeft, e.clientY - box.top];
    return this.cells.findIndex((c) => x >= c.x && x < c.x + this.size + GAP && y >= c.y && y < c.y + this.size + GAP);
  }

  protected mark(i: number) {
    this.cells.forEach((c, k) => c.e.classList.toggle("on", k === i));
    const day = this.data?.days[i];
    if (!day) return undefined;
    const c = this.cells[i];
    this.box.scrollLeft = Math.min(c.x - LEFT, Math.max(this.box.scrollLeft, c.x + 2 * this.size - this.box.clientWidth));
    return { x: c.x, y: c.y + this.size + 4, title: this.day(day), rows: [{ name: "", text: this.format.number(day.count) }] };
  }

  protected choose(i: number): void {
    const day = this.data?.days[i];
    if (day) this.select({ time: day.date, start: this.format.midnight(utc(day.date)), end: this.format.midnight(utc(day.date) + 86400), step: "1d", tz: this.data!.tz, filter: this.getAttribute("filter") ?? "" });
  }
}
