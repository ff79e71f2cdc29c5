// Draws the board that the plugin's layout describes: the layout once, then one request whenever a new version is announced.
"use strict";
const server = document.body.dataset.statscache;
const metric = "release-engineering-event-logs";
const state = document.getElementById("state");
const board = document.getElementById("board");
let layout;

function element(name, text, css) {
  const e = document.createElement(name);
  if (text) e.textContent = text;
  if (css) e.className = css;
  return e;
}

async function get(path) {
  const answer = await fetch(server + path);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

async function draw() {
  try {
    layout ??= await get("api/" + metric + "/layout");
    const latest = await get("api/v1/metrics/" + metric + "/latest");
    const options = layout.default_options ?? {};
    board.replaceChildren(...layout.groups.map((group) => {
      const section = element("section");
      section.append(element("h2", group.name ?? group.id));
      for (const component of group.components) {
        const rows = latest.rows.filter((r) => r.key.category === component.id);
        const box = element("div", "", "box");
        box.append(element("h3", component.name ?? component.id));
        for (const { value, time } of rows) {
          const tone = (options.status_class_map?.[value.status] ?? "").replace("text-", "");
          const line = element("p", `${value.name ?? ""} ${options.status_verb_map?.[value.status] ?? value.status ?? ""} `, tone);
          const when = element("time", new Date(time).toLocaleString([], { timeZoneName: "short" }));
          when.dateTime = time;
          line.append(when);
          box.append(line);
        }
        if (!rows.length) box.append(element("p", "no message yet", "none"));
        section.append(box);
      }
      return section;
    }));
    state.textContent = "As of " + new Date(latest.as_of).toLocaleTimeString([], { timeZoneName: "short" });
  } catch (error) {
    state.textContent = "Not up to date: " + error.message;
  }
}

draw();
let source;
function listen() {
  source = new EventSource(server + "api/v1/stream?metrics=" + metric);
  source.addEventListener("version", draw);
}
listen();
// A page kept for the way back must not keep its connection.
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (e) => { if (e.persisted) listen(); });
