// Keeps the start page up to date: asks once a second with the ETag of what it has, less often while the server is
// away, not at all while nobody looks.
"use strict";
(() => {
  const INTERVAL = 1000;
  const SLOWEST = 30000;
  const BARS = 60; // seconds in the chart
  const ROWS = 8;
  const CATEGORIES = 12;

  const link = document.getElementById("link");
  const uptime = document.getElementById("uptime");
  const number = new Intl.NumberFormat("en");
  const kept = new Map(); // URL -> {etag, data}
  const missing = new Map(); // path -> when to look again
  let skew = 0; // the server's clock minus ours, ms
  let delay = INTERVAL;
  let lastAnswer = 0;
  let timer = 0;
  let running = false;

  const serverNow = () => Math.floor((Date.now() + skew) / 1000);
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

  function make(name, attributes, ...children) {
    const e = document.createElement(name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.append(...children);
    return e;
  }

  // say changes a text only if it differs, so that screen readers hear of news only.
  function say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // ask gives what a URL has now and whether that is new; null where there is no such thing.
  async function ask(url) {
    const old = kept.get(url);
    const headers = { Accept: "application/json" };
    if (old) headers["If-None-Match"] = old.etag;
    const answer = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
    const date = Date.parse(answer.headers.get("Date"));
    if (date) skew = date + 500 - Date.now(); // Date is cut to seconds
    if (answer.status === 304) return { data: old.data, fresh: false };
    if (answer.status === 404) return { data: null, fresh: true };
    if (!answer.ok) throw new Error("answered " + answer.status);
    const data = await answer.json();
    kept.set(url, { etag: answer.headers.get("ETag") || "", data });
    return { data, fresh: true };
  }

  // windows asks for rows up to a time so far ahead that the open window is there too. It moves once an hour: a URL
  // that changed every second could not be kept by anybody.
  async function windows(path, rows) {
    if (Date.now() < (missing.get(path) || 0)) return { data: null, fresh: false };
    const stop = (Math.floor(serverNow() / 3600) + 2) * 3600;
    const answer = await ask(path + "?rows_per_page=" + rows + "&stop=" + stop);
    if (!answer.data) missing.set(path, Date.now() + SLOWEST);
    return answer;
  }

  function panel(path) {
    const body = document.querySelector('[data-live="' + path + '"]');
    const empty = body.parentElement.querySelector(".empty");
    return {
      body,
      rows: body.querySelector("tbody"),
      show() { body.hidden = false; empty.hidden = true; },
      none(text) { body.hidden = true; empty.hidden = false; say(empty, text); },
    };
  }

  const seconds = panel("api/volume-1s");
  const minutes = panel("api/volume-by-category-1m");

  function drawSeconds(rows) {
    if (!rows) return seconds.none("Nothing counts volume-1s here.");
    if (!rows.length) return seconds.none("No event yet. The first one shows here within a second.");
    seconds.show();
    const end = serverNow() + 1; // of the open window
    const counts = new Map(rows.map((r) => [r.timestamp, r.volume]));
    let peak = 0;
    for (let i = 0; i < BARS; i++) peak = Math.max(peak, counts.get(end - i) || 0);
    const chart = seconds.body.querySelector("svg");
    const bars = [];
    for (let i = 0; i < BARS; i++) {
      const n = counts.get(end - i) || 0;
      if (!n) continue;
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const height = Math.max(2, (n / peak) * 112);
      bar.setAttribute("x", String(600 - (i + 1) * 10 + 1));
      bar.setAttribute("y", String(120 - height));
      bar.setAttribute("width", "8");
      bar.setAttribute("height", String(height));
      if (i === 0) bar.setAttribute("class", "open");
      bars.push(bar);
    }
    chart.replaceChildren(...bars);
    say(seconds.body.querySelector(".peak"), peak ? "peak " + number.format(peak) + " a second" : "a quiet minute");
    seconds.rows.replaceChildren(...rows.slice(0, ROWS).map((r) => {
      const open = r.timestamp >= end;
      const name = make("th", { scope: "row" }, clock(r.timestamp));
      if (open) name.append(make("span", { class: "tag" }, "open"));
      return make("tr", open ? { class: "open" } : {}, name, make("td", { class: "n" }, number.format(r.volume)));
    }));
  }

  function drawMinutes(rows) {
    if (!rows) return minutes.none("Nothing counts volume-by-category-1m here.");
    if (!rows.length) return minutes.none("No event yet.");
    minutes.show();
    const end = (Math.floor(serverNow() / 60) + 1) * 60;
    const byName = new Map();
    for (const r of rows) {
      if (r.timestamp !== end && r.timestamp !== end - 60) continue;
      const c = byName.get(r.category) || { name: r.category, open: 0, last: 0 };
      if (r.timestamp === end) c.open = r.volume; else c.last = r.volume;
      byName.set(r.category, c);
    }
    const list = [...byName.values()].sort((a, b) => b.open + b.last - a.open - a.last || (a.name < b.name ? -1 : 1));
    const most = Math.max(1, ...list.map((c) => Math.max(c.open, c.last)));
    const cell = (n) => {
      const part = make("i", { "aria-hidden": "true" });
      part.style.setProperty("--part", (100 * n) / most + "%");
      return make("td", { class: "n meter" }, number.format(n), part);
    };
    const drawn = list.slice(0, CATEGORIES).map((c) =>
      make("tr", {}, make("th", { scope: "row" }, c.name), cell(c.open), cell(c.last)));
    if (!drawn.length) drawn.push(make("tr", {}, make("td", { colspan: "3", class: "none" }, "No event in these two minutes.")));
    minutes.rows.replaceChildren(...drawn);
    const more = list.length - CATEGORIES;
    say(minutes.body.querySelector(".foot"),
      "The open minute ends at " + clock(end) + " UTC." + (more > 0 ? " " + more + " more categories are not shown." : ""));
  }

  const state = (name) => make("td", {}, make("span", { class: "state", "data-state": name }, name));
  const count = (n) => make("td", { class: "n" }, number.format(n));

  function drawTable(id, rows, none) {
    const body = document.querySelector("#" + id + " tbody");
    if (!rows.length) rows = [make("tr", {}, make("td", { colspan: "7", class: "none" }, none))];
    body.replaceChildren(...rows);
  }

  function drawStatus(s) {
    say(document.getElementById("rate"), s.events_per_second.toFixed(1));
    say(document.getElementById("owned"), number.format(s.owned));
    drawTable("plugins", s.plugins.map((p) => make("tr", {},
      make("th", { scope: "row" }, p.id + " ", make("small", {}, p.version)), state(p.state), count(p.lag),
      count(p.metrics.length), count(p.restarts), count(p.dead_letters), make("td", { class: "wide" }, p.error || ""))),
    "No plugin runs in this process.");
    drawTable("endpoints", s.endpoints.map((e) => make("tr", {},
      make("th", { scope: "row" }, e.name), make("td", {}, make("code", {}, e.address)), state(e.state),
      make("td", {}, e.last_event ? make("time", {}, e.last_event.slice(0, 19).replace("T", " ")) : "none yet"),
      count(e.received), count(e.rejected), count(e.reconnects))),
    "This process listens to no endpoint.");
  }

  function drawUptime() {
    const started = Date.parse(uptime.dataset.started);
    if (!started) return;
    const s = Math.max(0, serverNow() - Math.floor(started / 1000));
    const d = Math.floor(s / 86400), h = Math.floor((s % 86400) / 3600), m = Math.floor((s % 3600) / 60);
    say(uptime, d ? d + " d " + h + " h" : h ? h + " h " + m + " min" : m ? m + " min" : s + " s");
  }

  async function update() {
    const [second, minute, status] = await Promise.all([
      windows("api/volume-1s", 100), windows("api/volume-by-category-1m", 100), ask("api/v1/status"),
    ]);
    drawSeconds(second.data); // time goes on even if the rows are the same
    drawMinutes(minute.data);
    if (status.fresh) {
      drawStatus(status.data);
      uptime.dataset.started = status.data.started;
    }
    drawUptime();
  }

  async function tick() {
    if (running) return;
    running = true;
    try {
      await update();
      delay = INTERVAL;
      lastAnswer = serverNow();
      link.dataset.state = "live";
      say(link, "Live");
    } catch (e) {
      delay = Math.min(delay * 2, SLOWEST);
      link.dataset.state = "away";
      say(link, lastAnswer ? "The server is away. These numbers are from " + clock(lastAnswer) + " UTC." : "The server is away.");
    } finally {
      running = false;
    }
    link.hidden = false;
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(tick, delay);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) tick();
  });
  tick();
})();
