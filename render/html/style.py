"""The style sheet of every HTML report: light, dark where the system is, readable on a phone and on paper."""

from ...trainer.drawing import dark_rules

_SHEET = """
:root {
  --paper: #fbfbfc; --card: #ffffff; --ink: #1d2329; --soft: #5a636e; --line: #e2e6ea; --band: #f4f6f8;
  --shade: #0003;
  --accent: #0064a0; --good: #0b7a4b; --good-bg: #e5f5ec; --bad: #b3261e; --bad-bg: #fcebea;
  --none: #5f6772; --none-bg: #eef0f2;
  --mark-a: #ffe9a8; --mark-b: #cfe8ff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --card: #1b2025; --ink: #e6e9ec; --soft: #a3acb6; --line: #313840; --band: #20262c;
    --shade: #000a;
    --accent: #6cb8ee; --good: #6fd3a0; --good-bg: #17372a; --bad: #ff9c94; --bad-bg: #43211f;
    --none: #a9b1ba; --none-bg: #2a3037;
    --mark-a: #594711; --mark-b: #1f4463;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
.kicker { color: var(--accent); font-weight: 600; letter-spacing: .02em; margin: 0 0 .5rem; }
h1 { font-size: clamp(1.9rem, 5vw, 3rem); line-height: 1.12; letter-spacing: -.02em; margin: 0 0 1rem;
  text-wrap: balance; }
h2 { font-size: 1.5rem; letter-spacing: -.01em; margin: 3.25rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
.lead { font-size: 1.15rem; color: var(--soft); max-width: 46rem; margin: 0 0 1.5rem; }
.note, figcaption, dt, .under { color: var(--soft); font-size: .9rem; }
.prose { max-width: 46rem; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.25rem; padding: .85rem 0; margin-top: 1.75rem;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); font-size: .95rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1rem 1.2rem; }
.tile b { display: block; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em; }
.tile span { color: var(--soft); font-size: .9rem; line-height: 1.4; display: block; }
/* Shadows at the sides that more lies behind: a cover that moves along lies on each. */
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .7rem;
  background:
    linear-gradient(to right, var(--card) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--card) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 1rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll, var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .88rem; line-height: 1.4; }
th, td { padding: .5rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal;
  background: var(--band); }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
tbody th { font-weight: 500; white-space: normal; min-width: 11rem;
  background: var(--card); position: sticky; left: 0; }
.wrap th:first-child, .words td:last-child { white-space: normal; min-width: 13rem; }
table .under { font-size: .9em; }
tr.own th { font-weight: 700; }
tr.skipped td { color: var(--soft); text-align: left; white-space: normal; }
.mark { display: inline-block; border-radius: 1rem; padding: .05rem .6rem; font-size: .82rem;
  font-weight: 600; }
.yes { color: var(--good); background: var(--good-bg); }
.no { color: var(--bad); background: var(--bad-bg); }
.told { color: var(--accent); background: var(--band); }
.none { color: var(--none); background: var(--none-bg); }
.matrix td { text-align: center; }
.matrix thead th:not(:first-child) { text-align: center; }
.matrix td .mark { white-space: normal; }
.matrix thead th { overflow-wrap: break-word; min-width: 6rem; }
.figures { display: grid; gap: 1rem; align-items: start; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: 1rem 1rem .8rem; min-width: 0; }
figure .scroll { border: 0; border-radius: 0; }
figure h3 { margin: 0 0 .4rem; font-size: 1rem; }
figure figcaption { margin-top: .4rem; }
figure svg { display: block; width: 100%; min-width: 20rem; height: auto; }
figure.wide { grid-column: 1 / -1; }
figure.wide svg { min-width: 42rem; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: inherit !important; }
mark { border-radius: .2rem; color: inherit; padding: 0 .1rem; }
mark.a { background: var(--mark-a); }
mark.b { background: var(--mark-b); }
.texts td { white-space: normal; vertical-align: top; min-width: 16rem; }
.texts th { vertical-align: top; }
.excerpt { white-space: pre-line; margin: 0 0 .9rem; font-family: Georgia, "Times New Roman", serif;
  overflow-wrap: anywhere; }
.claims td, .claims th { white-space: normal; vertical-align: top; }
.claims td:nth-child(1) { color: var(--soft); min-width: 8rem; }
.claims td:nth-child(3) { min-width: 18rem; }
.claims td:last-child { min-width: 9rem; }
.claims .mark { white-space: nowrap; }
details { border: 1px solid var(--line); border-radius: .7rem; background: var(--card); margin: .75rem 0; }
summary { cursor: pointer; padding: .8rem 1.2rem .8rem 2.4rem; position: relative; display: flex;
  flex-wrap: wrap; gap: .1rem 1rem; align-items: baseline; }
summary::before { content: "▸"; color: var(--soft); position: absolute; left: 1.2rem; }
details[open] > summary::before { content: "▾"; }
summary::-webkit-details-marker { display: none; }
summary b { font-size: 1.05rem; }
summary span { color: var(--soft); font-size: .92rem; }
details > div { padding: 0 1.2rem 1.2rem; border-top: 1px solid var(--line); }
dl { display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; gap: .45rem 1.5rem; margin: .5rem 0; }
dt { overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
.glossary dt { color: var(--ink); font-weight: 600; }
footer { color: var(--soft); font-size: .85rem; margin-top: 3rem; padding-bottom: 3rem; }
@media (max-width: 36rem) {
  header { padding-top: 1.75rem; }
  main, header, footer { padding-left: .75rem; padding-right: .75rem; }
  figure { padding: .7rem .6rem; }
  table { font-size: .8rem; }
  tbody th { min-width: 7.5rem; }
  dl { grid-template-columns: 1fr; gap: .1rem; }
  dd { margin-bottom: .6rem; }
  th, td { padding: .45rem .5rem; }
  .matrix thead th { min-width: 5rem; }
  .wrap th:first-child { min-width: 7.5rem; }
  details > div { padding: 0 .7rem .8rem; }
  .claims, .claims tbody, .claims tr, .claims th, .claims td,
  .texts, .texts tbody, .texts tr, .texts th, .texts td { display: block; min-width: 0 !important; }
  .claims thead, .texts thead { display: none; }
  .claims tr > *, .texts tr > * { border-bottom: 0; padding: .2rem .8rem; }
  .claims tr, .texts tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .claims th, .texts th { position: static; font-weight: 600; }
}
@media print {
  body { background: #fff; font-size: 12px; }
  nav { display: none; }
  figure, .tile, tr { break-inside: avoid; }
  mark { border-bottom: 1px solid #888; }
}
""".strip()

CSS = f"{_SHEET}\n@media (prefers-color-scheme: dark) {{ {dark_rules(inside='figure')} }}"
