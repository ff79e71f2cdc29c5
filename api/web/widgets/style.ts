// The look of all widgets. Colours follow the theme by themselves; a host page may set the custom properties.

export const style = `
:host{display:block;position:relative;min-width:0;color-scheme:light dark;contain:layout style;
--ink:var(--statscache-ink,light-dark(#1a2233,#e6eaf2));--soft:var(--statscache-soft,light-dark(#566074,#a0aabd));
--line:var(--statscache-line,light-dark(#e1e5ec,#2b3446));--card:var(--statscache-card,light-dark(#fff,#141a26));
--accent:var(--statscache-accent,light-dark(#2a5db0,#7fb0f5));--warn:light-dark(#8a5300,#f0b45a);--bad:light-dark(#b3261e,#ff8f85);--good:light-dark(#14724a,#5fd39c);
--c0:light-dark(#2a5db0,#6ea3ee);--c1:light-dark(#ad5000,#f2a154);--c2:light-dark(#00735d,#3fc4a8);--c3:light-dark(#a1458a,#e08fcb);
--c4:light-dark(#806c00,#d8c24a);--c5:light-dark(#2b8cc4,#8fd0f5);--c6:light-dark(#8b3a2b,#ea9a86);--c7:light-dark(#5b6478,#a0aabd);
--l0:light-dark(#ebeef3,#1f2735);--l1:light-dark(#b9cfee,#23406b);--l2:light-dark(#7ba5de,#3a67a8);--l3:light-dark(#3b73bd,#6b9fe6);--l4:light-dark(#153f80,#b5d4fb);
font:14px/1.45 system-ui,"Segoe UI",Cantarell,sans-serif;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 16px 8px;text-align:start}
:host([hidden]){display:none}:host([theme=light]){color-scheme:light}:host([theme=dark]){color-scheme:dark}
:host([plain]){border:0;padding:0;background:none}
*{box-sizing:border-box}
header{display:flex;flex-wrap:wrap;gap:0 8px;align-items:baseline;justify-content:space-between;margin-bottom:8px}
header:empty{display:none}
h2{margin:0;font-size:14px;line-height:1.4;font-weight:600;overflow-wrap:anywhere}
.sum{margin-inline-start:auto;color:var(--soft);font-variant-numeric:tabular-nums;white-space:nowrap}
.body{position:relative;min-height:var(--h,0)}
.body.old{filter:grayscale(1)}
.chart{overflow-x:auto;overflow-y:hidden;border-radius:4px;outline-offset:2px}
:focus-visible{outline:2px solid var(--accent)}
svg{display:block;font:11px/1 system-ui,"Segoe UI",sans-serif;overflow:visible}
text{fill:var(--soft);font-variant-numeric:tabular-nums}
text.name{font-weight:600}
.grid{stroke:var(--line);shape-rendering:crispEdges}
.cursor{stroke:var(--soft);stroke-dasharray:2 2}
.dotted{stroke:var(--card);stroke-width:1.5}
path.s{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}
path.area{opacity:.1}
.open{stroke-dasharray:3 4}
.shade{fill:var(--warn);opacity:.08}
rect.part{opacity:.5}
rect.day{rx:2px;ry:2px}
rect.day.on{stroke:var(--ink);stroke-width:2}
.tip{position:absolute;z-index:2;pointer-events:none;background:var(--card);border:1px solid var(--line);border-radius:6px;box-shadow:0 2px 10px #0003;padding:4px 8px;font-size:12px;white-space:nowrap;max-width:100%;font-variant-numeric:tabular-nums}
.tip b{display:block;font-weight:600}
.tip i,.legend i{display:inline-block;width:8px;height:8px;border-radius:2px;margin-inline-end:6px;background:var(--k)}
.tip span{display:flex;justify-content:space-between;gap:12px;align-items:baseline}
.tip bdi,.legend bdi{overflow:hidden;text-overflow:ellipsis;max-width:22em}
.legend{display:flex;flex-wrap:wrap;gap:2px 12px;margin:4px 0 0;padding:0;list-style:none;font-size:12px;color:var(--soft)}
.scale{gap:4px;align-items:center}.scale i{width:11px;height:11px;margin:0}
.legend li{display:flex;align-items:baseline;min-width:0}
footer{display:flex;gap:4px 12px;align-items:baseline;justify-content:space-between;margin-top:6px;min-height:24px;font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}
footer p{margin:0;min-width:0}
.flag{color:var(--warn);font-weight:600}
.note{margin:0;padding:8px 12px;border-inline-start:3px solid var(--warn);background:light-dark(#fff7e8,#2a2214);border-radius:4px;font-size:13px;overflow-wrap:anywhere}
.note.bad{border-color:var(--bad);background:light-dark(#fdeeec,#301a18)}
.note+*{margin-top:8px}
.empty{color:var(--soft);margin:0;padding:16px 0}
.wait{position:absolute;inset:0;border-radius:4px;background:linear-gradient(90deg,var(--l0),transparent,var(--l0));opacity:.5}
button{font:inherit;color:var(--accent);background:none;border:1px solid transparent;border-radius:4px;padding:1px 6px;cursor:pointer;white-space:nowrap;min-height:24px}
button:hover{border-color:var(--line)}
.scroll{overflow:auto;max-height:320px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
caption{text-align:start;color:var(--soft);padding:0 0 4px}
th,td{text-align:start;padding:3px 12px 3px 0;border-bottom:1px solid var(--line);font-weight:400;vertical-align:baseline;overflow-wrap:anywhere}
thead th{position:sticky;top:0;background:var(--card);color:var(--soft);font-size:12px;font-weight:600;white-space:nowrap}
.n{text-align:end;white-space:nowrap;padding-inline-end:0;padding-inline-start:12px}
tr:last-child>*{border-bottom:0}
a{color:var(--accent);text-underline-offset:2px}
.rank{list-style:none;margin:0;padding:0}
.rank li{position:relative;display:flex;justify-content:space-between;gap:12px;padding:3px 8px;margin-bottom:2px;min-height:28px;align-items:center}
.rank li::before{content:"";position:absolute;inset:0 auto 0 0;width:var(--w);background:var(--accent);opacity:.16;border-radius:4px}
.rank li:dir(rtl)::before{inset:0 0 0 auto}
.rank bdi{position:relative;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.rank span{position:relative;white-space:nowrap;font-variant-numeric:tabular-nums}
.rank small{color:var(--soft);margin-inline-start:6px;font-size:12px}
.big{font-size:32px;line-height:40px;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums;margin:0;white-space:nowrap}
.change{margin:0;color:var(--soft)}
.dots{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0;padding:0;list-style:none}
.dot::before{content:"";display:inline-block;width:8px;height:8px;border-radius:50%;background:currentColor;margin-inline-end:6px}
.good{color:var(--good)}.warn{color:var(--warn)}.bad.dot{color:var(--bad)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media (forced-colors:active){path.s{stroke:CanvasText!important}rect.bar{fill:CanvasText!important}rect.day{forced-color-adjust:none}.dot::before,.rank li::before{forced-color-adjust:none}.tip,:host{border-color:CanvasText}}
@media (prefers-reduced-motion:no-preference){.body{transition:filter .2s}}
`;
