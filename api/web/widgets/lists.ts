// Numbers without time: the largest groups, tables, one number, and how the server is doing.

import { h } from "./dom";
import { Head, Table, Widget, keyText, seconds, tableOf } from "./widget";

interface Row { key: Record<string, string>; count: number }
interface TopRows extends Head { total: number; rows: Row[] }
interface Latest extends Head { rows: { key: Record<string, string>; time: string; value: unknown }[] }
interface Count extends Head { count: number; previous?: { from: string; to: string; count: number } }

/** <statscache-top> */
export class Top extends Widget<TopRows> {
  protected path(): string | undefined {
    return this.metric && "metrics/" + encodeURIComponent(this.metric) + "/top" + this.query({ "group-by": "by" }, { limit: this.getAttribute("top") || "10" });
  }

  protected height(): number { return Math.min(20, Number(this.getAttribute("top")) || 10) * 30; }
  protected sum(): string { return this.format.number(this.data!.total) + " in all"; }

  protected summary(): string {
    const { rows } = this.data!;
    return (this.getAttribute("title") || this.metric) + ": " + (rows.slice(0, 3).map((r) => keyText(r.key) + " " + this.format.number(r.count)).join(", ") || "nothing was counted") + ".";
  }

  protected table(): Table {
    const d = this.data!;
    const names = Object.keys(d.rows[0]?.key ?? {});
    return { head: [...names, "count"], numbers: [...names.map(() => false), true], rows: d.rows.map((r) => [...names.map((n) => r.key[n]), this.format.number(r.count)]) };
  }

  protected draw(): void {
    const d = this.data!;
    if (!d.rows.length) return this.body.replaceChildren(h("p", { class: "empty" }, "Nothing was counted in this window."));
    const most = d.rows[0].count || 1;
    this.body.replaceChildren(h("ol", { class: "rank" }, ...d.rows.map((r) => {
      const part = d.total ? (100 * r.count) / d.total : 0;
      const li = h("li", {}, h("bdi", { title: keyText(r.key) }, keyText(r.key)), h("span", {}, this.format.number(r.count), h("small", {}, (part < 1 ? "<" : "") + this.format.percent(Math.max(1, part) / 100))));
      li.style.setProperty("--w", Math.max(0, (100 * r.count) / most) + "%");
      return li;
    })));
  }
}

/** <statscache-table> */
export class Rows extends Widget<TopRows & Latest> {
  private kind = "";
  private of = "";

  protected path(): string | undefined {
    if (!this.metric) return undefined;
    const metric = "metrics/" + encodeURIComponent(this.metric);
    if (this.of !== this.metric) {
      this.of = this.metric;
      this.kind = "";
    }
    if (!this.kind) return metric; // some count and some keep the latest value: that decides what to ask for
    if (this.kind === "latest") {
      const q = new URLSearchParams();
      for (const f of (this.getAttribute("filter") ?? "").split(",")) if (f.trim()) q.append("filter", f.trim());
      return metric + "/latest" + (q.size ? "?" + q : "");
    }
    return metric + "/top" + this.query({ "group-by": "by" }, { limit: this.getAttribute("top") || "20" });
  }

  protected take(body: { metrics?: { kind: string }[] }): boolean {
    if (!body.metrics) return super.take(body);
    this.kind = body.metrics[0]?.kind ?? "counter";
    this.attributeChangedCallback();
    return false;
  }

  protected sum(): string { return this.data!.total === undefined ? "" : this.format.number(this.data!.total) + " in all"; }
  protected table(): undefined { return undefined; }
  protected summary(): string { return (this.getAttribute("title") || this.metric) + ": " + this.data!.rows.length + " rows."; }

  protected draw(): void {
    const d = this.data!;
    if (!d.rows.length) return this.body.replaceChildren(h("p", { class: "empty" }, "There is nothing yet."));
    const names = Object.keys(d.rows[0].key);
    const latest = "time" in d.rows[0];
    const t: Table = latest
      ? { head: [...names, "time (" + this.format.zone + ")", "value"], numbers: [...names.map(() => false), false, false], rows: (d as Latest).rows.map((r) => [...names.map((n) => r.key[n]), this.format.clock(seconds(r.time)), brief(r.value)]) }
      : { head: [...names, "count"], numbers: [...names.map(() => false), true], rows: (d as TopRows).rows.map((r) => [...names.map((n) => r.key[n]), this.format.number(r.count)]) };
    const old = this.body.querySelector(".scroll")?.scrollTop ?? 0;
    const box = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": this.getAttribute("title") || this.metric }, tableOf(t, this.getAttribute("title") || this.metric));
    this.body.replaceChildren(box);
    box.scrollTop = old;
  }
}

/** What to show of a message: its topic and what else is short. */
function brief(value: unknown): string {
  if (value === null || typeof value !== "object") return String(value);
  const v = value as Record<string, unknown>;
  if (typeof v.topic === "string") return v.topic;
  const flat = Object.entries(v).filter(([, x]) => x != null && typeof x !== "object" && !/^https?:/.test(String(x)));
  const text = flat.length ? flat.map(([k, x]) => k + ": " + x).join(", ") : JSON.stringify(value);
  return text.length > 120 ? text.slice(0, 119) + "…" : text;
}

/** <statscache-number> */
export class One extends Widget<Count> {
  protected path(): string | undefined {
    return this.metric && "metrics/" + encodeURIComponent(this.metric) + "/count" + this.query({}, this.getAttribute("from") ? { previous: "1" } : {});
  }

  protected height(): number { return 40; }
  protected table(): undefined { return undefined; }
  protected summary(): string { return (this.getAttribute("title") || this.metric) + ": " + this.format.number(this.data!.count) + ". " + this.compared(); }

  /** How it compares with as long a time before. */
  private compared(): string {
    const { count, previous } = this.data!;
    if (!previous?.count) return "";
    const by = count / previous.count - 1;
    return (by >= 0.005 ? "▲ " : by > -0.005 ? "= " : "▼ ") + this.format.percent(Math.abs(by)) + " · " + this.format.number(previous.count) + " in as long a time before";
  }

  protected draw(): void {
    const by = this.compared();
    const p = this.data!.previous;
    this.body.replaceChildren(h("p", { class: "big" }, this.format.number(this.data!.count)), ...(by ? [h("p", { class: "change", title: this.format.window(seconds(p!.from), seconds(p!.to)) }, by)] : []));
  }
}

interface Status extends Head {
  version: string; events_per_second: number; owned: number; store: { kind: string; up: boolean };
  endpoints: { name: string; state: string }[];
  plugins: { id: string; state: string; lag: number }[];
}

/** <statscache-status> */
export class State extends Widget<Status> {
  protected path(): string { return "status"; }
  protected height(): number { return 24; }
  protected every(): number { return 5000; }
  protected table(): Table {
    const d = this.data!;
    return { head: ["Plugin", "State", "Lag"], numbers: [false, false, true], rows: d.plugins.map((p) => [p.id, p.state, this.format.number(p.lag)]) };
  }

  /** What isn't as it should be. */
  private red(): string[] {
    const d = this.data!;
    const out = d.endpoints.filter((e) => e.state === "down").map((e) => e.name + " is down");
    if (!d.store.up) out.push("the store is away");
    for (const p of d.plugins) if (!["running", "starting", "disabled"].includes(p.state)) out.push(p.id + " is " + p.state);
    return out;
  }

  protected summary(): string { return "statscache: " + (this.red().join(", ") || "all is well") + "."; }

  protected draw(): void {
    const d = this.data!;
    d.as_of = new Date().toISOString(); // the answer is about now
    const red = this.red();
    const n = this.format;
    this.body.replaceChildren(h("ul", { class: "dots" },
      h("li", { class: "dot " + (red.length ? (d.store.up ? "warn" : "bad") : "good") }, red.length ? red.join(", ") : "all is well"),
      h("li", {}, n.number(Math.round(d.events_per_second * 10) / 10) + " events a second"),
      h("li", {}, n.number(d.owned) + " events archived"),
      h("li", {}, d.endpoints.length + " endpoints, " + d.plugins.length + " plugins")));
  }
}
