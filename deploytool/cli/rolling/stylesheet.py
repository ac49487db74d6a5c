"""How a report looks: by day, by night, on a narrow screen and on paper."""

from __future__ import annotations

from typing import Final

__all__ = ("STYLE",)

STYLE: Final = """
:root { color-scheme: light dark; --page: #fbfbf9; --card: #ffffff; --ink: #1d2226; --soft: #5b656d; --rule: #dcdfdc;
  --good: #1f6f43; --back: #8a5300; --bad: #a3242a; --calm: #44566b; --line: #1c5fb0; --fill: #e7eef8; --odd: #f2f3f0;
  --even: #e9ebe6; --gap: #f3c98b; --code: #f0f1ee; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1b1f23; --ink: #d5d9dc; --soft: #97a1a9;
  --rule: #31383e; --good: #7cc79b; --back: #e0b060; --bad: #f0908d; --calm: #a5b6c8; --line: #7fb2ee; --fill: #22303f;
  --odd: #20252a; --even: #272d33; --gap: #6b4a1d; --code: #23282d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; --tone: var(--calm); }
body.good { --tone: var(--good); } body.back { --tone: var(--back); } body.bad { --tone: var(--bad); }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
header { border-left: .4rem solid var(--tone); padding: .2rem 0 .2rem 1rem; margin-bottom: 1.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .1rem 0 .4rem; color: var(--tone); text-wrap: balance; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
.what, .precision, footer, .none { color: var(--soft); font-size: .9rem; margin: 0; }
.ending { margin: 0; } .ending, .said { white-space: pre-wrap; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: 1rem 1.1rem;
  margin: 0 0 1rem; }
section > p { margin: .3rem 0; } section > ul { margin: .5rem 0; padding-left: 1.2rem; }
.failure { border-color: var(--tone); }
.commands { background: var(--code); border-radius: .35rem; padding: .7rem .8rem; margin: .6rem 0 0; overflow-x: auto;
  white-space: pre; }
code, pre, tr.log .said, .event .said { font-size: .86em;
  font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
.facts { margin: 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
  gap: .35rem 2rem; }
.facts div { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); gap: .6rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top;
  padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--rule); font-weight: normal; }
thead th { color: var(--soft); font-size: .85rem; } tbody tr:last-child > * { border-bottom: 0; }
.phases { min-width: 44rem; } .phases th[scope] { white-space: nowrap; } .number { text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; } .phases td, .at { font-variant-numeric: tabular-nums; }
.when { width: 34%; } .when svg { display: block; width: 100%; height: .8rem; margin-top: .35rem; }
.track { fill: var(--odd); } .bar { fill: var(--line); } .failed .bar, .failed .mark { fill: var(--bad);
  color: var(--bad); } .left .bar { fill: var(--back); } .mark { display: inline-block; width: 1.1em; }
.log td { padding-top: .2rem; padding-bottom: .2rem; } .at, .phase { white-space: nowrap; color: var(--soft);
  font-size: .86rem; } .log .said { width: 100%; font-size: .92rem; } .warning b, .event b { color: var(--back); }
.failed b { color: var(--bad); } .log tr.log { color: var(--soft); }
.curve { display: block; width: 100%; min-width: 46rem; height: auto; }
.curve text { fill: var(--soft); font: 12px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
.curve .band.odd rect { fill: var(--odd); } .curve .band.even rect { fill: var(--even); }
.curve .band text { font-size: 11px; } .curve .grid { stroke: var(--rule); } .curve .axis { stroke: var(--soft); }
.curve .baseline { stroke: var(--soft); stroke-dasharray: 2 4; } .curve .line { stroke: var(--line); stroke-width: 2.2;
  stroke-linecap: round; } .curve .guess { stroke-dasharray: 5 5; stroke-width: 1.6; }
.curve .dot { fill: var(--line); }
.curve .gap { fill: var(--gap); opacity: .6; } .curve .may { opacity: .4; }
.curve .gap-text { fill: var(--ink); font-weight: 600; }
footer { margin-top: 1.5rem; }
@media (max-width: 40rem) { main { padding: 1rem .75rem 2rem; } h1 { font-size: 1.5rem; }
  section { padding: .8rem .75rem; } .facts div { grid-template-columns: 1fr; gap: 0; margin-bottom: .3rem; }
  .commands { white-space: pre-wrap; overflow-wrap: anywhere; }
  .phases { min-width: 0; } .phases thead, .phases td:nth-child(2) { display: none; }
  .phases, .phases tbody { display: block; } .phases tr { display: grid; grid-template-columns: 1fr auto;
    border-bottom: 1px solid var(--rule); padding: .35rem 0; } .phases tr > * { border: 0; padding: 0; }
  .phases .when, .phases .said { grid-column: 1 / -1; width: auto; } .when svg { margin: .25rem 0; }
  .phases .said { color: var(--soft); font-size: .92rem; }
  .log, .log tbody { display: block; } .log tr { display: grid; grid-template-columns: auto 1fr; column-gap: .7rem;
    border-bottom: 1px solid var(--rule); padding: .25rem 0; } .log td { border: 0; padding: 0; }
  .log .said { grid-column: 1 / -1; } }
@media print { :root { --page: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #bbb; --good: #0f5a31;
    --back: #7a4700; --bad: #8f1b20; --calm: #33455a; --line: #1c5fb0; --odd: #f4f4f4; --even: #e8e8e8;
    --gap: #f3c98b; --code: #f2f2f2; color-scheme: light; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; } section { padding: .6rem .7rem; }
  .wide { overflow: visible; } .phases, .curve { min-width: 0; } .commands { white-space: pre-wrap; }
  tr, .now, .failure, .curve { break-inside: avoid; } h2 { break-after: avoid; } * { print-color-adjust: exact; } }
"""
"""Of the whole page; it names no font that has to be fetched."""
