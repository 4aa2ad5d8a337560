"""How the page looks: light or dark as the reader's system is, from the width of a phone on, and on paper."""

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #5b6675; --edge: #dfe3e9;
  --accent: #2463c9; --track: #e4e9f1; --mark: #b4480c; --good: #1d7a46; --look: #9a5b00; --bad: #b3261e;
  --good-back: #e5f4eb; --look-back: #fdf1dc; --bad-back: #fce8e6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --card: #1a2029; --ink: #e6eaf0; --soft: #9aa6b6; --edge: #2c3542;
    --accent: #6da3ff; --track: #2a3340; --mark: #ff9d5c; --good: #6fd49a; --look: #f2bb62; --bad: #ff8f86;
    --good-back: #16301f; --look-back: #352812; --bad-back: #3a1c1a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 0 0 .35rem; }
p { margin: 0 0 .75rem; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.soft, figcaption, footer { color: var(--soft); font-size: .9rem; }
header { margin-bottom: 1.25rem; }
section > details:last-child { padding-bottom: 0; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: .6rem; padding: 1.1rem;
  margin-top: 1rem; }
.verdict { border-radius: .6rem; padding: .8rem 1.1rem; font-weight: 600; }
.verdict.passed { background: var(--good-back); color: var(--good); }
.verdict.look { background: var(--look-back); color: var(--look); }
.verdict.failed { background: var(--bad-back); color: var(--bad); }
.notes { list-style: none; margin: .75rem 0 0; padding: 0; }
.notes li { padding: .55rem .8rem; border-left: 3px solid var(--edge); background: var(--card); margin-top: .4rem; }
.notes li.warning { border-left-color: var(--look); }
.notes b { margin-right: .4rem; } .notes .warning b { color: var(--look); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.3rem, 1fr)); gap: .75rem; margin-top: 1rem; }
.tile { background: var(--card); border: 1px solid var(--edge); border-radius: .6rem; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; font-weight: 650; white-space: nowrap; }
.tile span { color: var(--soft); font-size: .85rem; }
.split { display: grid; gap: 1rem 2rem; align-items: start; }
.split > * { min-width: 0; }
@media (min-width: 46rem) { .split { grid-template-columns: 1fr 1fr; } }
figure { margin: 0 0 .5rem; } figcaption { margin-top: .3rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: left; padding: .32rem .6rem .32rem 0; border-bottom: 1px solid var(--edge);
  vertical-align: top; }
th { color: var(--soft); font-weight: 500; } thead th { vertical-align: bottom; }
tr:last-child > * { border-bottom: 0; }
td.number, th.number { text-align: right; padding-left: .6rem; padding-right: .3rem; white-space: nowrap; }
.wide { overflow-x: auto; }
.whole td { overflow-wrap: break-word; }
.good { color: var(--good); } .bad { color: var(--bad); } .good, .bad { font-weight: 600; white-space: nowrap; }
details { border-top: 1px solid var(--edge); padding: .55rem 0; } details[open] { padding-bottom: .9rem; }
section > figure, section > .split { margin-bottom: .75rem; }
summary { cursor: pointer; } summary:focus-visible { outline: 2px solid var(--accent); }
.found { list-style: none; margin: .3rem 0 0; padding: 0; }
.found li { padding: .35rem 0; border-bottom: 1px solid var(--edge); } .found li:last-child { border: 0; }
.found .common { border-left: 3px solid var(--accent); padding-left: .5rem; }
.pill { font-size: .8rem; color: var(--soft); border: 1px solid var(--edge); border-radius: 1rem; padding: 0 .5rem;
  white-space: nowrap; }
svg.plot { display: block; width: 100%; max-width: 28rem; height: auto; }
svg text { fill: var(--soft); font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
svg .label { fill: var(--ink); } svg .value { fill: var(--ink); font-weight: 600; }
svg .bar, svg .dot { fill: var(--accent); } svg .track { fill: var(--track); }
svg .rule { stroke: var(--edge); stroke-width: 1; }
svg .mark { stroke: var(--mark); stroke-width: 2; } svg .curve { fill: none; stroke: var(--accent); stroke-width: 2; }
.key { display: inline-block; width: .2rem; height: .9rem; background: var(--mark); vertical-align: -.1rem; }
footer { margin-top: 1.5rem; }
@media print { body { background: none; } section { break-inside: avoid; } }
"""
