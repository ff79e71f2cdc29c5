// The widgets of statscache: custom elements that draw what a server counts. See widgets on any server for how to use them.

import { Calendar } from "./calendar";
import { Bars, Line } from "./chart";
import { One, Rows, State, Top } from "./lists";

const all: Record<string, CustomElementConstructor> = { calendar: Calendar, line: Line, bars: Bars, top: Top, table: Rows, number: One, status: State };
for (const name in all) if (!customElements.get("statscache-" + name)) customElements.define("statscache-" + name, all[name]);
