// A drawing with points that the mouse and the keys walk over.

import { h } from "./dom";
import { Widget } from "./widget";

/** A widget whose drawing has points 0 to n-1. */
export abstract class Pointed<T> extends Widget<T> {
  protected at = -1;
  protected readonly box = h("div", { class: "chart", tabindex: 0, role: "group", "aria-roledescription": "chart" });
  protected readonly tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });

  constructor() {
    super();
    this.box.addEventListener("keydown", (e) => this.key(e));
    this.box.addEventListener("pointermove", (e) => this.go(this.near(e), false));
    this.box.addEventListener("pointerleave", () => this.go(-1, false));
    this.box.addEventListener("blur", () => this.go(-1, false));
    this.box.addEventListener("click", () => this.choose(this.at));
  }

  protected abstract points(): number;
  /** The point at a place of the mouse, -1 for none. */
  protected abstract near(e: PointerEvent): number;
  /** How far the keys → and ↓ go. */
  protected strides(): [number, number] { return [1, 0]; }
  /** Marks a point and gives what to write at which place in it: nothing for none. */
  protected abstract mark(i: number): { x: number; y: number; title: string; rows: { name: string; text: string; colour?: string }[] } | undefined;
  protected abstract choose(i: number): void;

  protected show(drawing: Element, ...more: Element[]): void {
    this.box.setAttribute("aria-label", this.summary() + " Arrow keys read the values.");
    const left = this.box.scrollLeft;
    const first = !this.box.firstChild;
    this.box.replaceChildren(drawing);
    if (this.box.parentNode !== this.body) this.body.replaceChildren(this.box, this.tip);
    this.body.replaceChildren(this.box, ...more, this.tip);
    this.box.scrollLeft = first ? this.box.scrollWidth : left;
    if (this.at >= this.points()) this.at = -1;
    this.go(this.at, false);
  }

  private key(e: KeyboardEvent): void {
    const n = this.points();
    const [right, down] = this.strides();
    const moves: Record<string, number> = { ArrowRight: right, ArrowLeft: -right, Home: -n, End: n, ArrowDown: down, ArrowUp: -down, PageDown: 10, PageUp: -10 };
    if (e.key === "Escape") return this.go(-1, false);
    if (e.key === "Enter" && this.at >= 0) return this.choose(this.at);
    const by = moves[e.key];
    if (!by || !n || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    this.go(this.at < 0 ? (by > 0 && e.key !== "End" ? 0 : n - 1) : Math.min(n - 1, Math.max(0, this.at + by)), true);
  }

  private go(i: number, aloud: boolean): void {
    this.at = i;
    const m = this.mark(i);
    this.tip.hidden = !m;
    if (!m) return;
    this.tip.replaceChildren(h("b", {}, m.title), ...m.rows.map((r) => {
      const k = h("i");
      k.style.setProperty("--k", r.colour ?? "transparent");
      return h("span", {}, h("bdi", {}, r.colour && k, r.name), r.text);
    }));
    const width = this.body.clientWidth;
    const x = m.x - this.box.scrollLeft;
    const w = this.tip.offsetWidth;
    this.tip.style.left = Math.max(0, Math.min(width - w, x + 12 + w > width ? x - w - 12 : x + 12)) + "px";
    this.tip.style.top = Math.max(0, m.y) + "px";
    if (aloud) this.tell(m.title + ": " + m.rows.map((r) => (r.name ? r.name + " " : "") + r.text).join(", "));
  }
}

