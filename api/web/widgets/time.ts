// Times in a zone and numbers in a language, by what the browser knows of both.

const DAY = 86400;

/** Formats for one language and one zone. */
export class Format {
  private readonly full: Intl.NumberFormat;
  private readonly short: Intl.NumberFormat;
  private readonly offsets = new Map<number, number>();
  private readonly parts: Intl.DateTimeFormat;
  private readonly dates = new Map<string, Intl.DateTimeFormat>();

  constructor(readonly lang: string | undefined, readonly zone: string) {
    this.full = new Intl.NumberFormat(lang);
    this.short = new Intl.NumberFormat(lang, { notation: "compact", maximumFractionDigits: 1 });
    this.parts = new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
    });
  }

  number(n: number): string { return this.full.format(n); }

  percent(part: number): string { return part.toLocaleString(this.lang, { style: "percent" }); }

  compact(n: number): string { return Math.abs(n) < 10_000 ? this.full.format(n) : this.short.format(n); }

  /** Seconds to add to UTC at a time. Zones change at whole quarters of an hour only. */
  private offset(t: number): number {
    const quarter = Math.floor(t / 900);
    let o = this.offsets.get(quarter);
    if (o === undefined) {
      const p: Record<string, number> = {};
      for (const { type, value } of this.parts.formatToParts(quarter * 900_000)) p[type] = Number(value);
      o = Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) / 1000 - quarter * 900;
      this.offsets.set(quarter, o);
    }
    return o;
  }

  /** The local clock at a time, as if it were UTC. */
  local(t: number): number { return t + this.offset(t); }

  /** When a day begins that is given as if the local clock were UTC. */
  midnight(t: number): number {
    const near = t - this.offset(t);
    return t - this.offset(near);
  }

  /** A time written with given parts, in the zone. */
  date(t: number, options: Intl.DateTimeFormatOptions): string {
    const key = JSON.stringify(options);
    let f = this.dates.get(key);
    if (!f) this.dates.set(key, (f = new Intl.DateTimeFormat(this.lang, { timeZone: this.zone, ...options })));
    return f.format(t * 1000);
  }

  /** A time as precise as steps of so many seconds deserve. */
  moment(t: number, step: number): string {
    if (step >= 28 * DAY) return this.date(t, { year: "numeric", month: "long" });
    if (step >= DAY) return this.date(t, { weekday: "short", year: "numeric", month: "short", day: "numeric" });
    return this.date(t, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined });
  }

  /** The time of day; with the day where it isn't today's. */
  clock(t: number): string {
    const today = Math.floor(this.local(t) / DAY) === Math.floor(this.local(Date.now() / 1000) / DAY);
    return this.date(t, { hour: "2-digit", minute: "2-digit", second: "2-digit", ...(today ? {} : { month: "short", day: "numeric" }) });
  }

  /** A window, [from, to); one that isn't over ends now. */
  window(from: number, to: number, open = false): string {
    const whole = (t: number) => this.local(t) % DAY === 0;
    const days = whole(from) && (open || whole(to));
    const year = days || this.date(from, { year: "numeric" }) !== this.date(to - 1, { year: "numeric" }) ? "numeric" : undefined;
    const at = (t: number) => this.date(t, { year, month: "short", day: "numeric", ...(days ? {} : { hour: "2-digit", minute: "2-digit" }) });
    const [a, b] = [at(from), open ? "now" : at(days ? to - 1 : to)];
    return a === b ? a : a + " – " + b;
  }

  /** The first day of the week: 1 for Monday to 7 for Sunday. */
  weekStart(): number {
    try {
      const l = new Intl.Locale(this.lang || navigator.language) as Intl.Locale & { weekInfo?: { firstDay: number }; getWeekInfo?: () => { firstDay: number } };
      return (l.getWeekInfo ? l.getWeekInfo() : l.weekInfo)?.firstDay ?? 1;
    } catch {
      return 1;
    }
  }
}

/** A text on a time axis. */
export interface Tick { at: number; text: string }

const month = (l: number) => { const d = new Date(l * 1000); return d.getUTCFullYear() * 12 + d.getUTCMonth(); };
const clock: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };
const day: Intl.DateTimeFormatOptions = { month: "short", day: "numeric" };

// From fine to coarse: what makes a tick, by the local clock, and how it is written.
const units: [(l: number) => number, Intl.DateTimeFormatOptions][] = [
  ...[5, 15, 30].map((n): [(l: number) => number, Intl.DateTimeFormatOptions] => [(l) => Math.floor(l / n), { ...clock, second: "2-digit" }]),
  ...[1, 5, 15, 30, 60, 180, 360, 720].map((n): [(l: number) => number, Intl.DateTimeFormatOptions] => [(l) => Math.floor(l / n / 60), clock]),
  [(l) => Math.floor(l / DAY), day],
  [(l) => Math.floor((Math.floor(l / DAY) + 3) / 7), day],
  [month, { month: "short" }],
  [(l) => Math.floor(month(l) / 3), { month: "short", year: "numeric" }],
  [(l) => Math.floor(month(l) / 12), { year: "numeric" }],
  [(l) => Math.floor(month(l) / 60), { year: "numeric" }],
];

/** Round times among those of the points, at most so many. */
export function timeTicks(f: Format, times: number[], most: number): Tick[] {
  if (times.length < 2) return times.map((at) => ({ at, text: f.moment(at, DAY) }));
  const local = times.map((t) => f.local(t));
  for (const [unit, options] of units) {
    const at: number[] = [];
    let bounded = true;
    for (let i = 1; i < times.length && bounded; i++) {
      if (unit(local[i]) !== unit(local[i - 1])) bounded = at.push(times[i]) <= most;
    }
    if (bounded && at.length > 0) return at.map((t) => ({ at: t, text: f.date(t, unit === month && month(f.local(t)) % 12 === 0 ? { year: "numeric" } : options) }));
  }
  return [];
}

/** Few round numbers from 0 to at least the largest. */
export function roundTicks(max: number, about: number): number[] {
  const raw = Math.max(max, 1) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].map((m) => m * power).find((m) => m >= raw) ?? raw);
  const out: number[] = [];
  for (let v = 0; v < max + step || out.length < 2; v += step) out.push(v);
  return out;
}
