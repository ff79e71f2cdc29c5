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
  const { time } = (e as CustomEvent).detail;
  (form.elements.namedItem("at") as HTMLInputElement).value = typeof time === "number" ? new Date(time * 1000).toISOString() : time;
  form.requestSubmit();
});
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

/** The status page follows the process. */
if (document.querySelector("[data-status]")) {
  const number = new Intl.NumberFormat();
  const at = (v: any, path: string[]): any => {
    if (!path.length || v == null) return v;
    if (!Array.isArray(v)) return at(v[path[0]], path.slice(1));
    const last = path.length - 1; // names may have dots
    return at(v.find((x) => (x.id ?? x.name) === path.slice(0, last).join(".")), path.slice(last));
  };
  const time = document.querySelector<HTMLTimeElement>("[data-status] time")!;
  const look = async () => {
    if (!document.hidden) {
      try {
        const st = await (await fetch(root + "api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(8000) })).json();
        for (const e of document.querySelectorAll<HTMLElement>("[data-live]")) {
          const v = at(st, e.dataset.live!.split("."));
          if (v === undefined) continue;
          const text = typeof v === "number" ? number.format(Math.round(v * 10) / 10) : String(v);
          if (e.textContent !== text) e.textContent = text;
          if (e.dataset.state !== undefined) e.dataset.state = text;
        }
        time.dateTime = new Date().toISOString();
        time.textContent = time.dateTime.slice(0, 19).replace("T", " ");
        time.classList.remove("bad");
      } catch { time.classList.add("bad"); }
    }
    setTimeout(look, 3000);
  };
  setTimeout(look, 3000);
}

/** A board is drawn anew when one of its messages has come. */
const board = document.querySelector<HTMLElement>("[data-board]");
if (board) {
  let first = true;
  const source = new EventSource(root + "api/v1/stream?metrics=" + encodeURIComponent(board.dataset.board!));
  source.addEventListener("version", () => {
    if (first) { first = false; return; }
    setTimeout(() => location.reload(), document.hidden ? 60_000 : 1000);
  });
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
}

/** A frame tells its host how high it is. */
if (document.body.hasAttribute("data-embed") && parent !== window) {
  new ResizeObserver(() => parent.postMessage({ statscache: "height", height: Math.ceil(document.body.getBoundingClientRect().height) }, "*")).observe(document.body);
}
