// Gives a list of what keeps people from using the page: names, headings, labels, contrast, width.
(() => {
  const faults = [];
  const roots = [document, ...[...document.querySelectorAll("*")].filter((e) => e.shadowRoot).map((e) => e.shadowRoot)];
  const name = (e) => (e.getRootNode().host ? e.getRootNode().host.localName + " " : "") + e.localName + (e.id ? "#" + e.id : "") + (e.className && typeof e.className === "string" ? "." + e.className : "");
  const visible = (e) => e.checkVisibility ? e.checkVisibility() : true;
  if (!document.documentElement.lang) faults.push("the page names no language");
  if (!document.title) faults.push("the page has no title");
  if (document.querySelectorAll("h1").length !== 1 && !document.body.hasAttribute("data-embed") && !document.querySelector("main:empty")) faults.push(document.querySelectorAll("h1").length + " main headings");
  if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is wider than its window: " + document.documentElement.scrollWidth);
  let level = 0;
  for (const h of document.querySelectorAll("h1,h2,h3,h4")) {
    const n = Number(h.localName[1]);
    if (n > level + 1) faults.push(name(h) + " skips a level: " + h.textContent);
    level = n;
  }
  const parent = (e) => e.parentElement ?? e.getRootNode().host;
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (let p = e; p; p = parent(p)) {
      const c = rgb(getComputedStyle(p).backgroundColor);
      if (c[3] > 250) return c;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 255] : [255, 255, 255, 255];
  };
  const seen = new Set();
  for (const root of roots) {
    const ids = [...root.querySelectorAll("[id]")].map((e) => e.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push("the id " + id + " is there twice");
    for (const e of root.querySelectorAll("img:not([alt])")) faults.push(name(e) + " has no text instead");
    for (const e of root.querySelectorAll("input:not([type=hidden]),select,textarea")) if (!e.labels?.length && !e.getAttribute("aria-label")) faults.push(name(e) + " has no label");
    for (const e of root.querySelectorAll("button,a[href],summary")) if (!e.textContent.trim() && !e.getAttribute("aria-label") && !e.querySelector("img[alt]:not([alt=''])")) faults.push(name(e) + " has no name");
    for (const e of root.querySelectorAll("table")) if (!e.querySelector("th[scope]")) faults.push(name(e) + " has no heads");
    for (const e of root.querySelectorAll("iframe:not([title])")) faults.push(name(e) + " has no title");
    for (const e of root.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) faults.push(name(e) + " breaks the order of focus");
    for (const e of root.querySelectorAll("*")) {
      if (!visible(e) || e.closest(".unseen,.skip,script,style,title,desc,option") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
      const style = getComputedStyle(e);
      const [a, b] = [light(rgb(e instanceof SVGElement ? style.fill : style.color)), light(behind(e))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const fault = name(e) + " has too little contrast: " + ratio.toFixed(1);
      if (ratio < 4.5 && !seen.has(fault)) { seen.add(fault); faults.push(fault + " in “" + e.textContent.trim().slice(0, 30) + "”"); }
    }
  }
  return faults;
})()
