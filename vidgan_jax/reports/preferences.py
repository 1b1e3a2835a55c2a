"""The answers of a study as tables for a terminal and as a page.

Both show what `study.summary` has counted.
"""

from collections.abc import Mapping
import html as html_lib
from typing import Any

from vidgan_jax import evals


def text(summary: Mapping[str, Any]) -> str:
  """The summary as tables for a terminal."""
  wide = max(len(s["name"]) for s in summary["systems"])
  lines = [f"{summary['question']}  ({_raters(summary)})", ""]
  for m in summary["matchups"]:
    lines.append(
      f"  {m['a']:<{wide}} over {m['b']:<{wide}}  {_percent(m):<24} "
      f"{m['a_wins']} won, {m['ties']} ties, {m['b_wins']} lost{_apart(m)}"
    )
  lines += ["", "Bradley-Terry strengths (log-odds; the mean system is 0):"]
  if summary["ranking"] is None:
    lines.append(f"  {summary['no_ranking']}")
  for place, row in enumerate(summary["ranking"] or (), 1):
    low, high = row["interval"]
    lines.append(
      f"  {place}. {row['name']:<{wide}}  {row['strength']:+.2f} "
      f"[{low:+.2f}, {high:+.2f}]"
    )
  lines += ["", _agreement(summary)]
  lines += [f"Warning: {line}" for line in summary["warnings"]]
  return "\n".join(lines)


def _raters(summary) -> str:
  raters = summary["raters"]
  line = f"{summary['votes']} votes of {raters['counted']} raters"
  if raters["failed_checks"]:
    line += f"; left out, failed their checks: {raters['failed_checks']}"
  if raters["without_a_check"]:
    line += f"; left out, reached no check: {raters['without_a_check']}"
  return line


def _percent(row) -> str:
  if row["rate"] is None:
    return "no vote"
  low, high = row["interval"]
  return f"{row['rate']:.1%} [{low:.1%}, {high:.1%}]"


def _apart(row) -> str:
  """What is to be said where the interval holds both verdicts."""
  low, high = row["interval"] or (1, 1)
  return f", {evals.NOT_APART}" if low <= 0.5 <= high else ""


def _agreement(summary) -> str:
  agreement = summary["agreement"]
  alpha, same = agreement["krippendorff_alpha"], agreement["same_answer"]
  line = "Agreement: "
  if same is None:
    return line + "not computed, no pair was seen by two raters."
  line += "Krippendorff's alpha "
  line += "not defined" if alpha is None else f"{alpha:.2f}"
  return (
    f"{line}; two raters of a pair gave the same answer {same:.0%} of the time "
    f"({agreement['pairs_seen_twice']} pairs)."
  )


_STYLE = """
body { margin: 0 auto; max-width: 52rem; padding: 2.5rem 1.2rem 4rem;
  font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0; } .quiet { color: #666; }
.warning { border-left: 3px solid #b8860b; background: #fdf8ec;
  padding: .5rem .9rem; margin: .6rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem .9rem .5rem 0;
  border-bottom: 1px solid #e4e4e4; vertical-align: middle; }
th { font-weight: 600; color: #666; font-size: .86rem; }
td.number { white-space: nowrap; } td.plot { width: 40%; min-width: 9rem; }
.axis { position: relative; height: 1.3rem; background: #f4f4f4;
  border-radius: 3px; }
.axis i { position: absolute; display: block; }
.zero { top: 0; bottom: 0; width: 1px; background: #bbb; }
.span { top: .5rem; height: .3rem; background: #7a9cc6; border-radius: 2px; }
.dot { top: .25rem; width: .8rem; height: .8rem; margin-left: -.4rem;
  border-radius: 50%; background: #1f4e8c; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.4rem; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; } dd {
  margin-bottom: .5rem; } }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #1b1b1b; }
  .quiet, th, dt { color: #a5a5a5; } th, td { border-color: #383838; }
  .axis { background: #2a2a2a; } .zero { background: #5c5c5c; }
  .span { background: #4b6d99; } .dot { background: #9dc1f0; }
  .warning { background: #2c2615; }
}
"""


def html(summary: Mapping[str, Any]) -> str:
  """The summary as one page that needs nothing else."""
  escape = html_lib.escape
  matchups = [
    (
      f"{m['a']} over {m['b']}",
      _percent(m) + _apart(m),
      f"{m['a_wins']} / {m['ties']} / {m['b_wins']}",
      _plot(m["rate"], m["interval"], 0, 1, 0.5),
    )
    for m in summary["matchups"]
  ]
  parts = [
    f"<h1>{escape(summary['question'])}</h1>",
    f'<p class="quiet">{escape(_raters(summary))}</p>',
    *(f'<p class="warning">{escape(w)}</p>' for w in summary["warnings"]),
    "<h2>Who won how often</h2>",
    '<p class="quiet">Ties count half. The line is the 95 % interval (Wilson), '
    "the mark in the middle is chance. Votes are taken as independent.</p>",
    _table(("", "won", "won / ties / lost", "0 to 100 %"), matchups),
    "<h2>Ranking</h2>",
  ]
  if summary["ranking"] is None:
    parts.append(f"<p>{escape(summary['no_ranking'])}</p>")
  else:
    ends = [x for row in summary["ranking"] for x in row["interval"]]
    edge = 1.08 * max(map(abs, ends))
    rows = [
      (
        f"{place}. {row['name']}",
        f"{row['strength']:+.2f} [{row['interval'][0]:+.2f}, "
        f"{row['interval'][1]:+.2f}]",
        _plot(row["strength"], row["interval"], -edge, edge, 0),
      )
      for place, row in enumerate(summary["ranking"], 1)
    ]
    parts += [
      '<p class="quiet">Bradley-Terry strengths in log-odds with 95 % '
      "intervals; the mean system is 0. A lead of 1 wins 73 % of votes.</p>",
      _table(("", "strength", f"{-edge:.1f} to {edge:.1f}"), rows),
    ]
  left, seconds = summary["left"], summary["median_seconds"]
  parts += [
    "<h2>Raters</h2>",
    f"<p>{escape(_agreement(summary))}</p>",
    f"<p>{summary['raters']['begun']} began, {summary['raters']['finished']} "
    "finished.</p>",
  ]
  if seconds is not None:
    parts.append(
      f"<p>The median answer took {seconds:.1f} s; clip A, on the left, was "
      f"chosen in {_percent(left)} of the votes.</p>"
    )
  parts += [
    "<h2>Protocol</h2>",
    "<dl>",
    *(
      f"<dt>{escape(name.replace('_', ' '))}</dt>"
      f"<dd>{escape(_plain(value))}</dd>"
      for name, value in (
        summary["protocol"] | {"study": summary["study"]}
      ).items()
    ),
    "</dl>",
  ]
  return (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{escape(summary['question'])}</title>\n<style>{_STYLE}</style>\n"
    + "\n".join(parts)
    + "\n</html>\n"
  )


def _table(heads, rows) -> str:
  """Cells are escaped, but for the last one, which is a plot."""
  escape = html_lib.escape
  lines = ["".join(f'<th scope="col">{escape(h)}</th>' for h in heads)]
  for first, *cells, plot in rows:
    numbers = "".join(f'<td class="number">{escape(c)}</td>' for c in cells)
    lines.append(
      f'<td>{escape(first)}</td>{numbers}<td class="plot">{plot}</td>'
    )
  body = "\n".join(f"<tr>{line}</tr>" for line in lines)
  return f'<div class="scroll"><table>\n{body}\n</table></div>'


def _plot(value, interval, low, high, middle) -> str:
  """A dot and its interval between two ends."""
  if value is None:
    return ""
  at = lambda x: 100 * (x - low) / (high - low)
  a, b = interval
  return (
    f'<div class="axis"><i class="zero" style="left:{at(middle):.2f}%"></i>'
    f'<i class="span" style="left:{at(a):.2f}%;width:{at(b) - at(a):.2f}%">'
    f'</i><i class="dot" style="left:{at(value):.2f}%"></i></div>'
  )


def _plain(value) -> str:
  if isinstance(value, Mapping):
    return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
  return f"{value:g}" if isinstance(value, float) else str(value)
