// What all widgets have in common: attributes, asking, what is said when there is nothing to show, the table.

import { h, say } from "./dom";
import { listen } from "./live";
import { style } from "./style";
import { Format } from "./time";

const script = document.currentScript as HTMLScriptElement | null;
/** Where the script came from, without widgets/v1/: the server that is asked where src names none. */
const home = new URL("../../", script?.src || location.href).href;

const attributes = ["src", "metric", "filter", "from", "to", "step", "group-by", "top", "tz", "theme", "lang", "title"];
const SLOWEST = 60_000;
const LEAST = 1000; // between two questions
const TURN = 60_000; // windows that end now move even when nothing happens
const QUIET = 30_000; // between two announcements of numbers

let sheet: CSSStyleSheet | undefined;

function sharedSheet(): CSSStyleSheet {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
  }
  return sheet;
}

/** Why a range of an answer isn't all there is. */
export interface Incomplete { from: string; to: string; reason: string }

/** What every answer says of what it is about. */
export interface Head { metric: string; from: string; to: string; step?: string; tz: string; as_of: string; complete?: boolean; incomplete?: Incomplete[] }

/** A table of what a widget shows. Columns whose name is marked are numbers. */
export interface Table { head: string[]; numbers: boolean[]; rows: (string | Node)[][] }

/** What the reasons mean that are more than a moment's. */
export const reasons: Record<string, string> = {
  gap: "messages are missing", backfilling: "history is being fetched", expired: "the oldest numbers are deleted",
};

/** An answer that refuses: the server is there and says why. */
class Refused extends Error {
  constructor(readonly status: number, detail: string) { super(detail); }
}

export const seconds = (iso: string) => Date.parse(iso) / 1000;
export const keyText = (key: Record<string, string>) => Object.values(key).map((v) => v || "(none)").join(" · ");

/** A widget that shows an answer of type T. */
export abstract class Widget<T> extends HTMLElement {
  static observedAttributes = attributes;

  protected format = new Format(undefined, "UTC");
  protected data?: T;
  protected readonly body = h("div", { class: "body", part: "body" });
  private readonly header = h("header", { part: "header" });
  private readonly note = h("p", { class: "note", hidden: true });
  private readonly foot = h("p", { part: "foot" });
  private readonly toggle = h("button", { type: "button", "aria-expanded": "false" }, "Table");
  private readonly sheetBox = h("div", { class: "scroll", tabindex: 0, role: "region", hidden: true });
  private readonly live = h("p", { class: "unseen", role: "status" });

  private unlisten?: () => void;
  private timer = 0;
  private failures = 0;
  private asked = 0;
  private announced = 0;
  private told = "";
  private etag = "";
  private url = "";
  private abort?: AbortController;
  private width = 0;
  private readonly sizes = new ResizeObserver(([e]) => {
    const w = Math.round(e.contentRect.width);
    if (w !== this.width && (this.width = w) > 0 && this.data !== undefined) this.paint();
  });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sharedSheet()];
    root.append(this.header, this.note, this.body, this.sheetBox, h("footer", {}, this.foot, this.toggle), this.live);
    this.toggle.addEventListener("click", () => {
      this.sheetBox.hidden = !this.sheetBox.hidden;
      this.toggle.setAttribute("aria-expanded", String(!this.sheetBox.hidden));
      this.paintTable();
    });
  }

  /** What to ask for below api/v1/, nothing where an attribute is missing. */
  protected abstract path(): string | undefined;
  /** Draws this.data into this.body. */
  protected abstract draw(width: number): void;
  /** The same as a table; nothing where what is drawn is one. */
  protected abstract table(): Table | undefined;
  /** One sentence for those who don't see it. */
  protected abstract summary(): string;
  /** A text at the right of the title. */
  protected sum(): string { return ""; }
  /** How high it will be, so that nothing moves when it comes. */
  protected height(): number { return 0; }
  /** How often to ask where no version tells of news. */
  protected every(): number { return TURN; }

  connectedCallback(): void {
    this.sizes.observe(this);
    this.body.style.setProperty("--h", this.height() + "px");
    if (this.data === undefined) this.body.replaceChildren(h("div", { class: "wait" }));
    this.change();
  }

  disconnectedCallback(): void {
    this.sizes.disconnect();
    this.unlisten?.();
    this.unlisten = undefined;
    this.abort?.abort();
    clearTimeout(this.timer);
  }

  attributeChangedCallback(): void { if (this.isConnected) this.change(); }

  protected get metric(): string { return this.getAttribute("metric") ?? ""; }

  protected get base(): string {
    try {
      const u = new URL(this.getAttribute("src") || home, document.baseURI);
      return u.href.replace(/\/*$/, "/");
    } catch {
      return home;
    }
  }

  /** The URL's parameters that attributes give: names maps those that are called otherwise there. */
  protected query(names: Record<string, string>, more: Record<string, string> = {}): string {
    const q = new URLSearchParams();
    for (const [attribute, name] of Object.entries({ from: "from", to: "to", tz: "tz", ...names })) {
      const v = attribute === "tz" ? (this.getAttribute("tz") === "local" ? this.format.zone : this.getAttribute("tz")) : this.getAttribute(attribute);
      if (v) q.append(name, v);
    }
    for (const f of (this.getAttribute("filter") ?? "").split(",")) if (f.trim()) q.append("filter", f.trim());
    for (const k in more) q.append(k, more[k]);
    return q.size ? "?" + q : "";
  }

  /** The events of an element behind a point of it. */
  protected select(detail: Record<string, unknown>): void {
    this.dispatchEvent(new CustomEvent("statscache-select", { bubbles: true, composed: true, detail: { metric: this.metric, ...detail } }));
  }

  /** Keeps an answer; false where it leads to another question. */
  protected take(body: unknown): boolean {
    this.data = body as T;
    return true;
  }

  /** Says something to those who listen to the page. */
  protected tell(text: string): void { say(this.live, text); }

  private change(): void {
    queueMicrotask(() => {
      const tz = this.getAttribute("tz");
      let lang: string | undefined = this.getAttribute("lang") || navigator.language;
      try { Intl.getCanonicalLocales(lang); } catch { lang = undefined; }
      const zone = !tz ? "UTC" : tz === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : tz;
      try { this.format = new Format(lang, zone); } catch { this.format = new Format(lang, "UTC"); }
      this.paintHeader();
      const path = this.path();
      const url = path ? this.base + "api/v1/" + path : "";
      if (url === this.url && url) { if (this.data !== undefined) this.paint(); return; }
      this.url = url;
      this.etag = "";
      this.unlisten?.();
      this.unlisten = undefined;
      if (!path) return this.say("This widget needs a metric: name one of " + this.base + "api/v1/metrics in its attribute “metric”.", true);
      this.failures = 0;
      void this.ask();
    });
  }

  private later(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.ask(), ms) as unknown as number;
  }

  private async ask(): Promise<void> {
    clearTimeout(this.timer);
    if (!this.isConnected || !this.url) return;
    if (document.hidden && this.data !== undefined) return this.later(5000);
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    const slow = setTimeout(() => abort.abort(new Error("no answer in 15 seconds")), 15_000);
    this.asked = Date.now();
    try {
      const headers: Record<string, string> = { Accept: "application/json" };
      if (this.etag && this.data !== undefined) headers["If-None-Match"] = this.etag;
      const answer = await fetch(this.url, { headers, signal: abort.signal, credentials: "omit", cache: "no-store" });
      if (answer.status !== 304) {
        const body = await answer.json().catch(() => ({}));
        if (!answer.ok) throw new Refused(answer.status, body.detail || "The server answered " + answer.status + ".");
        this.etag = answer.headers.get("ETag") ?? "";
        if (!this.take(body)) return;
      }
      if (this.failures) this.tell("Numbers are coming again.");
      this.failures = 0;
      this.note.hidden = true;
      this.body.classList.remove("old");
      if (answer.status !== 304 || !this.told) this.paint();
      if (!this.unlisten && this.metric) this.unlisten = listen(this.base, this.metric, () => this.later(Math.max(0, this.asked + LEAST - Date.now())));
      this.later(this.every());
    } catch (e) {
      if (abort !== this.abort || !this.isConnected) return; // a newer question is on its way
      this.fail(e as Error);
    } finally {
      clearTimeout(slow);
    }
  }

  private fail(e: Error): void {
    const refused = e instanceof Refused && e.status < 500 && e.status !== 429;
    const wait = Math.min(SLOWEST, 1000 * 2 ** Math.min(++this.failures, 6)) * (0.75 + Math.random() / 2);
    this.later(refused ? SLOWEST : wait);
    if (refused) {
      this.data = undefined;
      this.body.replaceChildren();
      this.body.style.setProperty("--h", "0px");
      this.toggle.hidden = this.sheetBox.hidden = true;
      this.paintHeader();
      this.foot.replaceChildren(new URL(this.base).host);
      return this.say((e as Refused).status === 404 ? "Nothing to show: " + e.message : e.message, true);
    }
    const host = new URL(this.base).host;
    this.body.classList.add("old");
    if (this.data === undefined) this.body.replaceChildren(h("p", { class: "empty" }, "The numbers appear here as soon as there are any."));
    this.say((e instanceof Refused ? e.message : host + " can’t be reached.") + (this.data === undefined ? "" : " These are the last numbers that came.") + " It is tried again by itself.");
  }

  private say(text: string, bad = false): void {
    this.note.className = bad ? "note bad" : "note";
    this.note.hidden = false;
    say(this.note, text);
    this.tell(text);
  }

  private paintHeader(): void {
    const title = this.getAttribute("title") ?? "";
    const sum = this.data === undefined ? "" : this.sum();
    this.header.replaceChildren(...(title ? [h("h2", { part: "title" }, title)] : []), ...(sum ? [h("span", { class: "sum" }, sum)] : []));
  }

  private paint(): void {
    if (this.data === undefined) return;
    this.paintHeader();
    this.draw(Math.max(120, this.body.clientWidth || 600));
    this.body.style.setProperty("--h", "0px"); // what is there needs no room kept
    this.paintFoot(this.data as unknown as Head);
    this.toggle.hidden = this.table() === undefined;
    this.paintTable();
    const now = Date.now();
    const summary = this.summary();
    if (this.told && summary !== this.told && now - this.announced > QUIET) {
      this.announced = now;
      this.tell(summary);
    }
    this.told = summary;
  }

  private paintFoot(head: Head): void {
    if (!head.as_of) return;
    const parts: (string | Node)[] = [];
    const open = head.incomplete?.some((i) => i.reason === "open");
    if (head.from) parts.push(this.format.window(seconds(head.from), seconds(head.to), open && head.to > head.as_of) + " · ");
    parts.push(head.tz ?? this.format.zone, " · as of ", h("time", { datetime: head.as_of }, this.format.clock(seconds(head.as_of))));
    if (open) parts.push(" · still running");
    if (head.incomplete?.some((i) => i.reason === "lagging")) parts.push(" · the newest events are being counted");
    const why = [...new Set(head.incomplete?.map((i) => reasons[i.reason]).filter(Boolean))];
    if (why.length) parts.push(" · ", h("span", { class: "flag" }, "not complete: " + why.join(", ")));
    this.foot.replaceChildren(...parts);
  }

  private paintTable(): void {
    if (this.sheetBox.hidden) return;
    const t = this.table();
    this.sheetBox.setAttribute("aria-label", (this.getAttribute("title") || this.metric) + ", table");
    if (t) this.sheetBox.replaceChildren(tableOf(t, this.getAttribute("title") || this.metric));
  }
}

/** An HTML table. */
export function tableOf(t: Table, caption: string): HTMLTableElement {
  const cell = (name: "td" | "th", i: number, c: string | Node) => {
    const attributes: Record<string, string> = t.numbers[i] ? { class: "n" } : {};
    if (name === "th") attributes.scope = "col";
    return h(name, attributes, typeof c === "string" ? h("bdi", {}, c) : c);
  };
  return h("table", {}, h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, ...t.head.map((c, i) => cell("th", i, c)))),
    h("tbody", {}, ...t.rows.map((r) => h("tr", {}, ...r.map((c, i) => cell("td", i, c))))));
}
