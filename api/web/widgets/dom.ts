// Makes elements without ever parsing text as HTML: what a bus says is never markup.

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined>;

function fill<E extends Element>(e: E, attributes: Attributes, children: Child[]): E {
  for (const k in attributes) {
    const v = attributes[k];
    if (v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : String(v));
  }
  for (const c of children) if (c) e.append(c);
  return e;
}

/** An HTML element. */
export const h = <K extends keyof HTMLElementTagNameMap>(name: K, attributes: Attributes = {}, ...children: Child[]) =>
  fill(document.createElement(name), attributes, children);

/** An SVG element. */
export const s = (name: string, attributes: Attributes = {}, ...children: Child[]) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

/** Changes a text only if it differs, so that screen readers hear of news only. */
export function say(e: Element, text: string): void {
  if (e.textContent !== text) e.textContent = text;
}
