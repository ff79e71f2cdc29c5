// What pages do beyond their widgets. Each part finds out by itself whether it is wanted; without a script the pages'
// forms do the same by loading a page.

const root = new URL(document.body.dataset.root || "../", location.href).href;

/** Forms that show what is chosen at once. */
for (const form of document.querySelectorAll<HTMLFormElement>("form[data-auto]")) {
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("formdata", (e) => {
    for (const [k, v] of [...e.formData]) if (v === "" && k !== "group-by") e.formData.delete(k); // short addresses
  });
}

/** A chosen point of a chart is explained. */
document.addEventListener("statscache-select", (e) => {
  const box = document.querySelector("[data-explain]");
  const form = document.querySelector<HTMLFormElement>("form#explain");
  if (!form || !box?.contains(e.target as Node)) return;
  const { time, start = time, end } = (e as CustomEvent).detail;
  const write = (name: string, t: number) => { (form.elements.namedItem(name) as HTMLInputElement).value = new Date(t * 1000).toISOString().replace(".000", ""); };
  write("at", start);
  write("until", end);
  form.requestSubmit();
});
document.querySelector("form#explain [name=at]")?.addEventListener("input", () => { document.querySelector<HTMLInputElement>("form#explain [name=until]")!.value = ""; });
document.getElementById("explained")?.scrollIntoView({ block: "nearest" });

/** Snippets are there to be copied whole. */
for (const t of document.querySelectorAll<HTMLTextAreaElement>("textarea[readonly]")) t.addEventListener("focus", () => t.select());

/** Requests of the reference are sent and their answers shown. */
const MOST = 20_000;
for (const form of document.querySelectorAll<HTMLFormElement>("form.try")) {
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    let path = form.dataset.path!.slice(1);
    const query = new URLSearchParams();
    for (const input of form.querySelectorAll<HTMLInputElement>("[name]")) {
      if (!input.value) continue;
      if (input.dataset.in === "path") path = path.replace("{" + input.name + "}", encodeURIComponent(input.value));
      else if (input.dataset.in === "query") for (const v of input.name === "filter" || input.name === "not" ? input.value.split(",") : [input.value]) query.append(input.name, v.trim());
    }
    const url = root + path + (query.size ? "?" + query : "");
    form.querySelector(".sent")!.textContent = "curl '" + url + "'";
    const out = form.querySelector<HTMLElement>(".answer")!;
    out.hidden = false;
    out.textContent = "…";
    const begin = performance.now();
    try {
      if (path.endsWith("/stream")) return watch(url, out);
      const answer = await fetch(url, { signal: AbortSignal.timeout(20_000) });
      let text = await answer.text();
      const kind = answer.headers.get("Content-Type") ?? "";
      const size = text.length;
      if (kind.includes("json") && !kind.includes("ndjson") && size < MOST) text = JSON.stringify(JSON.parse(text), null, 2);
      if (text.length > MOST) text = text.slice(0, MOST) + "\n… " + (text.length - MOST) + " more letters";
      out.textContent = `${answer.status} ${answer.statusText}, ${kind}, ${size} letters in ${Math.round(performance.now() - begin)} ms\n\n${text}`;
    } catch (error) {
      out.textContent = "No answer: " + (error as Error).message;
    }
  });
}

/** Shows the first events of a stream. */
function watch(url: string, out: HTMLElement): void {
  out.textContent = "Listening for 15 seconds …\n";
  const source = new EventSource(url);
  source.addEventListener("version", (e) => out.append((e as MessageEvent).data + "\n"));
  setTimeout(() => { source.close(); out.append("Closed."); }, 15_000);
}

/** Brings a page up to date from a newer copy of it. Widgets, which do so by themselves, and forms stay as they are. */
function renew(old: ChildNode, now: ChildNode): void {
  if (old.nodeName !== now.nodeName) return old.replaceWith(document.importNode(now, true));
  if (!(old instanceof Element)) {
    if (old.nodeValue !== now.nodeValue) old.nodeValue = now.nodeValue;
    return;
  }
  if (old.localName === "form" || old.localName.includes("-")) return;
  const attributes = (now as Element).attributes;
  for (const a of [...old.attributes]) if (!attributes.getNamedItem(a.name)) old.removeAttribute(a.name);
  for (const a of attributes) if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
  const [is, be] = [[...old.childNodes], [...now.childNodes]];
  be.forEach((n, i) => (is[i] ? renew(is[i], n) : old.append(document.importNode(n, true))));
  for (const more of is.slice(be.length)) more.remove();
}

/** Pages that say how fresh they are stay so: every so many seconds, and soon after one of their metrics has changed. */
const LEAST = 3000; // between two looks
const fresh = document.querySelector<HTMLElement>("[data-fresh]");
if (fresh) {
  const every = 1000 * Number(fresh.dataset.fresh);
  let timer = 0;
  let looked = Date.now();
  let source: EventSource | undefined;
  const look = () => {
    looked = Date.now();
    const ask = new XMLHttpRequest();
    ask.open("GET", location.href);
    ask.responseType = "document"; // parsed without running anything
    ask.timeout = 10_000;
    ask.onloadend = () => {
      const main = ask.status === 200 && ask.responseXML?.querySelector("main");
      if (main) renew(document.querySelector("main")!, main);
      fresh.classList.toggle("late", !main);
      later(document.hidden ? 60_000 : every);
    };
    ask.send();
  };
  const later = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(look, ms) as unknown as number;
  };
  const listen = () => {
    if (!fresh.dataset.metrics || source) return;
    source = new EventSource(root + "api/v1/stream?metrics=" + encodeURIComponent(fresh.dataset.metrics));
    source.addEventListener("version", () => { if (!document.hidden) later(Math.max(0, looked + LEAST - Date.now())); });
  };
  listen();
  later(every);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) later(0); });
  addEventListener("pagehide", () => { source?.close(); source = undefined; });
  addEventListener("pageshow", (e) => { if (e.persisted) { listen(); later(0); } });
}

/** A frame tells its host how high it is. */
if (document.body.hasAttribute("data-embed") && parent !== window) {
  new ResizeObserver(() => parent.postMessage({ statscache: "height", height: Math.ceil(document.body.getBoundingClientRect().height) }, "*")).observe(document.body);
}
