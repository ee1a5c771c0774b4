/**
 * The look of the report and of the live page: one column on a phone, a rail of contents on a wide screen, plain in
 * print.
 */
export const STYLE = `
:root {
  color-scheme: light;
  --page: #f5f6f8; --card: #ffffff; --ink: #1a2029; --soft: #56606f; --line: #dfe3ea; --grid: #e9ecf1; --hover: #eef1f6;
  --link: #1557b0; --good: #12703a; --good-bg: #e3f4e9; --bad: #b3261e; --bad-bg: #fce9e7; --warn: #7d5200; --warn-bg: #fdf1d8;
  --c1: #1f6fd0; --c2: #c2570c; --c3: #8a3fb8; --c4: #0b7f79; --c5: #a8336b; --c6: #6b7280;
  --h0: #dcebfb; --h1: #94c1f2; --h2: #3f88dc; --h3: #1a56a3; --h4: #0a2a5c;
  --p-wait: #c3c9d3; --p-run: #1f6fd0; --p-settle: #e08a1e; --p-exit: #8a3fb8; --p-fail: #b3261e;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
:root[data-theme="dark"] {
  color-scheme: dark;
  --page: #0f1319; --card: #181e27; --ink: #e8ecf2; --soft: #a3adbb; --line: #2c3542; --grid: #262e3a; --hover: #212936;
  --link: #82b4f5; --good: #66d493; --good-bg: #14301f; --bad: #ff9a91; --bad-bg: #3b1a18; --warn: #f0c266; --warn-bg: #352a10;
  --c1: #6aaefc; --c2: #f79a4d; --c3: #c890f0; --c4: #4fd0c4; --c5: #f485b4; --c6: #a3adbb;
  --h0: #17304c; --h1: #1f5a92; --h2: #2f94cf; --h3: #86cfe8; --h4: #f7f6c8;
  --p-wait: #465060; --p-run: #6aaefc; --p-settle: #f7b04d; --p-exit: #c890f0; --p-fail: #ff9a91;
}
* { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; top: 0; z-index: 9; background: var(--card); padding: .6rem 1rem; }
.skip:focus { left: .5rem; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

header.top {
  position: sticky; top: 0; z-index: 5; display: flex; align-items: center; gap: .75rem; padding: .6rem 1.25rem;
  background: var(--card); border-bottom: 1px solid var(--line);
}
header.top .brand { font-weight: 650; letter-spacing: .01em; color: var(--soft); }
header.top .name { font-weight: 650; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
header.top .push { flex: 1; }
.pill {
  display: inline-block; padding: .1rem .65rem; border-radius: 99px; font-size: .82rem; font-weight: 650; white-space: nowrap;
  background: var(--hover); color: var(--soft);
}
.pass { background: var(--good-bg); color: var(--good); }
.fail { background: var(--bad-bg); color: var(--bad); }
.inconclusive { background: var(--warn-bg); color: var(--warn); }
button, select, input {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .3rem .7rem;
  max-width: 100%; min-height: 2.1rem;
}
button { cursor: pointer; white-space: nowrap; }
button:hover:not(:disabled) { background: var(--hover); }
button:disabled { opacity: .55; cursor: default; }
button.stop { background: var(--bad-bg); color: var(--bad); border-color: var(--bad); font-weight: 650; }

.layout { display: grid; grid-template-columns: minmax(0, 1fr); max-width: 1320px; margin: 0 auto; padding: 1.25rem; gap: 1.25rem; }
nav.contents { display: none; }
@media (min-width: 1100px) {
  .layout.railed { grid-template-columns: 190px minmax(0, 1fr); }
  nav.contents { display: block; position: sticky; top: 4.4rem; align-self: start; font-size: .9rem; }
  nav.contents ul { list-style: none; margin: 0; padding: 0; }
  nav.contents a { display: block; padding: .28rem .6rem; border-radius: 6px; color: var(--soft); text-decoration: none; }
  nav.contents a:hover { background: var(--hover); color: var(--ink); }
}
main { display: grid; gap: 1.25rem; grid-template-columns: minmax(0, 1fr); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.1rem 1.25rem 1.25rem; min-width: 0; }
h1 { font-size: 1.45rem; line-height: 1.3; margin: 0 0 .35rem; font-weight: 680; overflow-wrap: anywhere; }
h2 { font-size: 1.08rem; margin: 0 0 .2rem; font-weight: 660; }
h3 { font-size: .95rem; margin: 1.2rem 0 .3rem; font-weight: 640; }
p { margin: .3rem 0 .7rem; max-width: 78ch; }
.lead { color: var(--soft); font-size: .92rem; margin-bottom: .8rem; }
section.verdict { border-left: 6px solid var(--warn); }
section.verdict.v-running { border-left-color: var(--link); }
section.verdict.v-pass { border-left-color: var(--good); }
section.verdict.v-fail { border-left-color: var(--bad); }
section.verdict h2 { margin-top: .8rem; }
section.verdict ul { margin: .2rem 0 .6rem; padding-left: 1.2rem; }
section.verdict li { margin: .15rem 0; overflow-wrap: anywhere; }
.meta { color: var(--soft); font-size: .92rem; margin: 0; overflow-wrap: anywhere; }
.notice { background: var(--warn-bg); color: var(--warn); border-radius: 8px; padding: .6rem .9rem; margin: .8rem 0 0; font-size: .92rem; }
.notice ul { margin: .2rem 0 0; padding-left: 1.1rem; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: .7rem; margin: 1rem 0 0; }
.tile { border: 1px solid var(--line); border-radius: 10px; padding: .6rem .8rem; min-width: 0; }
.tile dt { color: var(--soft); font-size: .8rem; }
.tile dd { margin: 0; font-size: 1.3rem; font-weight: 660; font-variant-numeric: tabular-nums; }
.tile dd small { display: block; font-size: .78rem; font-weight: 400; color: var(--soft); }

.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline-offset: -2px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding-bottom: .3rem; }
th, td { text-align: left; padding: .32rem .6rem; border-bottom: 1px solid var(--grid); vertical-align: top; }
th { font-weight: 620; color: var(--soft); white-space: nowrap; }
tbody th { color: var(--ink); font-weight: 500; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.wrap { overflow-wrap: anywhere; min-width: 12rem; }
tbody tr:hover { background: var(--hover); }
th button { border: 0; background: none; padding: 0; min-height: 0; font-weight: inherit; color: inherit; }
th[aria-sort] button::after { content: ""; display: inline-block; width: .8em; text-align: center; }
th[aria-sort="ascending"] button::after { content: "\\2191"; }
th[aria-sort="descending"] button::after { content: "\\2193"; }
.ok, .crossed { font-weight: 650; white-space: nowrap; }
.ok { color: var(--good); } .crossed { color: var(--bad); } .neutral { color: var(--soft); }

.controls { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; margin: .2rem 0 .7rem; font-size: .9rem; }
.controls label { display: inline-flex; gap: .4rem; align-items: center; color: var(--soft); max-width: 100%; min-width: 0; }
.controls select, .controls input { color: var(--ink); min-width: 0; }
figure { margin: 0; min-width: 0; }
figure + figure { margin-top: 1.4rem; }
figcaption { color: var(--soft); font-size: .88rem; margin-bottom: .3rem; }
.plot { position: relative; min-height: 60px; border-radius: 6px; }
.plot canvas { display: block; }
.empty { color: var(--soft); padding: 1.4rem 0; text-align: center; border: 1px dashed var(--line); border-radius: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem .35rem; margin: .45rem 0 0; padding: 0; list-style: none; font-size: .84rem; }
.legend button, .legend .key {
  display: inline-flex; align-items: center; gap: .4rem; padding: .1rem .55rem; min-height: 1.8rem; border-radius: 99px; font-size: inherit;
}
.legend .key { border: 1px solid transparent; }
.legend button[aria-pressed="false"] { color: var(--soft); text-decoration: line-through; }
.legend svg { flex: none; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.readout { font-size: .85rem; color: var(--soft); min-height: 1.5em; margin: .3rem 0 0; font-variant-numeric: tabular-nums; }
.ramp { display: inline-flex; align-items: center; gap: .5rem; font-size: .84rem; color: var(--soft); }
.ramp canvas { border-radius: 3px; }
details.data { margin-top: .6rem; font-size: .9rem; }
summary { cursor: pointer; color: var(--link); padding: .15rem 0; }
details.data .scroll { max-height: 340px; overflow: auto; border: 1px solid var(--line); border-radius: 8px; margin-top: .4rem; }
details.data thead th { position: sticky; top: 0; background: var(--card); }
.columns { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.2rem; }
@media (min-width: 900px) { .columns { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); } .columns figure + figure { margin-top: 0; } }

.ledger { display: grid; gap: .8rem; margin-top: .8rem; }
.entry { border: 1px solid var(--line); border-radius: 10px; padding: .7rem .9rem; min-width: 0; }
.entry h3 { margin: 0 0 .2rem; display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
pre {
  background: var(--page); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; margin: .5rem 0 0; overflow-x: auto;
  font: .82rem/1.5 var(--mono); max-width: 100%; tab-size: 2;
}
code { font-family: var(--mono); font-size: .9em; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0; margin: .5rem 0 0; font-size: .92rem; }
dl.facts div { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: .6rem; padding: .25rem 0; border-bottom: 1px solid var(--grid); }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.copy { display: flex; gap: .5rem; align-items: start; }
.copy pre { flex: 1; margin: .3rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.copy button { margin-top: .3rem; }
.pager { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin-top: .6rem; font-size: .9rem; color: var(--soft); }
[role="tablist"] { display: flex; gap: .2rem; overflow-x: auto; border-bottom: 1px solid var(--line); }
[role="tab"] { border: 0; border-bottom: 3px solid transparent; border-radius: 6px 6px 0 0; background: none; color: var(--soft); padding: .5rem .9rem; }
[role="tab"][aria-selected="true"] { color: var(--ink); border-bottom-color: var(--link); font-weight: 620; }
[role="tabpanel"] { display: grid; gap: 1.25rem; grid-template-columns: minmax(0, 1fr); }
[hidden] { display: none !important; }
dialog { background: var(--card); color: var(--ink); border: 1px solid var(--line); border-radius: 12px; padding: 1.2rem; max-width: 28rem; }
dialog::backdrop { background: rgb(0 0 0 / .45); }
footer { color: var(--soft); font-size: .85rem; padding: .5rem 0 2rem; }

.dots svg { display: block; width: 100%; height: auto; max-width: 560px; }
.dots text { font-size: 12px; fill: var(--ink); } .dots .name { text-anchor: end; fill: var(--soft); }
.dots .base { stroke: var(--grid); } .dots .one { stroke: var(--c6); stroke-width: 1.5; opacity: .8; }
.dots .band { stroke: var(--c1); stroke-width: 7; stroke-opacity: .35; stroke-linecap: round; } .dots circle { fill: var(--c1); }
.dots .band.worse { stroke: var(--bad); } .dots circle.worse { fill: var(--bad); }
.dots .band.better { stroke: var(--good); } .dots circle.better { fill: var(--good); }
small { color: var(--soft); }

@media (max-width: 560px) {
  body { font-size: 14.5px; }
  .layout { padding: .6rem; gap: .7rem; } main { gap: .7rem; } [role="tabpanel"] { gap: .7rem; }
  header.top { padding: .45rem .7rem; gap: .5rem; } header.top .brand { display: none; }
  section { padding: .85rem .85rem 1rem; border-radius: 10px; }
  h1 { font-size: 1.2rem; }
  .tiles { grid-template-columns: 1fr 1fr; } .tile dd { font-size: 1.1rem; }
  dl.facts div { grid-template-columns: minmax(0, 1fr); gap: 0; }
}
@media print {
  body { background: #fff; font-size: 10.5pt; }
  header.top { position: static; border: 0; padding: 0; } .layout, .layout.railed { display: block; padding: 0; max-width: none; }
  nav.contents, button, .controls, .skip, details.data, .pager, .readout { display: none !important; }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: .8rem 0; break-inside: auto; }
  section.verdict { border-left: 6px solid var(--warn); padding-left: .8rem; }
  figure, .entry, .tile, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .legend button { display: inline-flex !important; border: 0; } th button { display: inline !important; } .scroll { overflow: visible; }
  pre { white-space: pre-wrap; }
}
`;
