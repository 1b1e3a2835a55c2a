"""What the answers of a study say, and how far to trust it.

Win rates with Wilson intervals (Wilson 1927), a ranking by the model of
Bradley and Terry (1952) with intervals from the observed information, and the
agreement of raters as Krippendorff's alpha. A tie counts half a win for each
side. Raters who failed their attention checks are left out and counted.

The intervals take every vote for an independent draw. Many raters on few clips
are not that: use many pairs rather than many votes a pair.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import html as html_lib
import statistics
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.measures import intervals
from vidgan_jax.study import store


class NoRankingError(errors.UserError):
  """The votes do not determine a ranking; says why."""


# ------------------------------------------------------------- statistics


def bradley_terry(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Strengths s of maximal likelihood: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

  Newton's method on the concave log-likelihood (Bradley and Terry 1952); a
  finite answer exists, and is unique, if and only if every system has lost to
  every other by some chain of votes (Ford 1957).

  Args:
    wins: (K, K) float, [i, j] the votes for i against j, ties half to each.

  Returns:
    Strengths (K,), which sum to zero, and their standard errors (K,), from the
    inverse of the observed information on that plane.

  Raises:
    NoRankingError: there is no finite answer.
  """
  size = len(wins)
  votes = wins + wins.T
  met = _reach(votes > 0)
  if not met.all():
    apart = np.flatnonzero(~met[0])
    raise NoRankingError(
      f"systems {apart.tolist()} have no vote that connects them to system 0"
    )
  beats = _reach(wins > 0)
  if not beats.all():
    always = np.flatnonzero(beats.sum(1) > beats.sum(0)).tolist()
    raise NoRankingError(
      f"systems {always} have never lost a vote to those below them, so how "
      "much better they are has no upper bound"
    )
  strengths, mean = np.zeros(size), np.full((size, size), 1 / size)
  for _ in range(1000):
    odds = strengths[:, None] - strengths
    p = 1 / (1 + np.exp(-odds))
    slope = (wins - votes * p).sum(1)
    weights = votes * p * p.T
    information = np.diag(weights.sum(1)) - weights
    # The information is singular along (1, ..., 1) alone: `mean` fills that.
    covariance = np.linalg.inv(information + mean) - mean
    step = covariance @ slope
    longest = np.abs(step).max()
    strengths = strengths + step / max(1.0, longest)
    if longest < 1e-12:
      break
  strengths -= strengths.mean()
  return strengths, np.sqrt(np.diag(covariance))


def _reach(edges: np.ndarray) -> np.ndarray:
  """(K, K) bool: is there a way along the edges from i to j?"""
  reach = edges | np.eye(len(edges), dtype=bool)
  for _ in range(len(edges)):
    reach = (reach.astype(int) @ reach) > 0
  return reach


def krippendorff(units: Sequence[Sequence[float]]) -> float | None:
  """Krippendorff's alpha for interval data (Krippendorff 2011).

  1 - D_o / D_e: the mean squared difference of two values of one unit, over
  that of any two values. 1 is perfect agreement, 0 what chance gives.

  Args:
    units: the values given to each unit; those with one value do not count.

  Returns:
    alpha, or None where all values are equal, or no unit has two.
  """
  units = [np.asarray(u, float) for u in units if len(u) > 1]
  if not units:
    return None
  values = np.concatenate(units)
  total = len(values)
  # Over ordered pairs, sum (a - b)^2 = 2 m sum a^2 - 2 (sum a)^2.
  spread = lambda u: 2 * (len(u) * (u @ u) - u.sum() ** 2)
  observed = sum(spread(u) / (len(u) - 1) for u in units) / total
  expected = spread(values) / (total * (total - 1))
  return float(1 - observed / expected) if expected > 0 else None


# ---------------------------------------------------------------- summary


def summarize(study: store.Study, *, min_votes: int = 30) -> dict[str, Any]:
  """Everything the report says, as plain values for JSON.

  Args:
    study: its answers may be coming in meanwhile.
    min_votes: warn where two systems met less often.

  Raises:
    StudyError: there is no answer yet.
  """
  if min_votes < 0:
    raise store.StudyError(f"--min-votes {min_votes}: give 0 or more.")
  rows = []
  path = study.folder / "answers.sqlite"
  if path.exists() and path.stat().st_size:
    with store.Answers(study, read_only=True) as answers:
      rows, begun = answers.rows(), answers.raters()
  if not rows:
    raise store.StudyError(
      f"{study.folder} has no answers yet: `vidgan study serve "
      f"{study.folder}` collects them."
    )
  left_out, unchecked = _left_out(study, rows)
  present = {row["rater"] for row in rows}
  counted = present - left_out - unchecked
  votes = [r for r in rows if r["kind"] == "pair" and r["rater"] in counted]

  size = len(study.systems)
  wins, ties = np.zeros((size, size)), np.zeros((size, size), int)
  units = {}
  for vote in votes:
    first, second = (
      study.clips[c]["system"] for c in study.pairs[vote["item"]]
    )
    score = _score(study, vote)
    wins[first, second] += score
    wins[second, first] += 1 - score
    if score == 0.5:
      ties[first, second] += 1
    units.setdefault(vote["item"], []).append(score)
  together = [len(u) for u in units.values() if len(u) > 1]
  ranking, why = _ranking(study.systems, wins)
  lefts = sum({"left": 1, "right": 0, "tie": 0.5}[v["choice"]] for v in votes)
  complete = study.pairs_per_rater + len(study.checks)
  answers_of = {r: sum(row["rater"] == r for row in rows) for r in present}
  summary = {
    "study": study.id,
    "question": study.question,
    "raters": {
      "begun": begun,
      "counted": len(counted),
      "finished": sum(n == complete for n in answers_of.values()),
      "failed_checks": len(left_out),
      "without_a_check": len(unchecked),
    },
    "votes": len(votes),
    "ties": int(ties.sum()),
    "matchups": _matchups(study.systems, wins, ties),
    "systems": _systems(study.systems, wins),
    "ranking": ranking,
    "no_ranking": why,
    "agreement": {
      "krippendorff_alpha": krippendorff(list(units.values())),
      "same_answer": _same(list(units.values())),
      "pairs_seen_twice": len(together),
    },
    "left": {
      "rate": lefts / len(votes) if votes else None,
      "interval": intervals.wilson(lefts, len(votes)) if votes else None,
    },
    "median_seconds": (
      statistics.median(v["seconds"] for v in votes) if votes else None
    ),
    "protocol": {
      "design": "two clips side by side in a loop, random sides",
      "ties": "half a win each" if study.ties else "not allowed",
      "intervals": "95 %",
      "pairs": len(study.pairs),
      "pairs_per_rater": study.pairs_per_rater,
      "checks_per_rater": len(study.checks),
      "check": study.check if study.checks else None,
      "failures_allowed": study.failures,
      "seed": study.seed,
      "video": dict(study.video),
      **study.facts,
    },
  }
  summary["warnings"] = _warnings(summary, min_votes)
  return summary


def _left_out(study, rows) -> tuple[set[int], set[int]]:
  """Raters who failed too many checks, and those who have answered none."""
  failed, checked = {}, set()
  for row in rows:
    if row["kind"] != "check":
      continue
    checked.add(row["rater"])
    good, bad = study.checks[row["item"]]
    right = "tie" if good == bad else "left" if row["left"] == good else "right"
    wrong = row["choice"] != right
    failed[row["rater"]] = failed.get(row["rater"], 0) + wrong
  out = {rater for rater, count in failed.items() if count > study.failures}
  if not study.checks:
    return out, set()
  return out, {row["rater"] for row in rows} - checked


def _score(study, row) -> float:
  """1 if the pair's first clip won, 0.5 for a tie, 0 if it lost."""
  if row["choice"] == "tie":
    return 0.5
  return float(row[row["choice"]] == study.pairs[row["item"]][0])


def _rate(score: float, votes: int) -> dict[str, Any]:
  if not votes:
    return {"rate": None, "interval": None}
  return {
    "rate": score / votes,
    "interval": list(intervals.wilson(score, votes)),
  }


def _matchups(names, wins, ties) -> list[dict[str, Any]]:
  rows = []
  for i, a in enumerate(names):
    for j in range(i + 1, len(names)):
      votes = round(wins[i, j] + wins[j, i])
      rows.append(
        {
          "a": a,
          "b": names[j],
          "votes": votes,
          "a_wins": round(wins[i, j] - ties[i, j] / 2),
          "ties": int(ties[i, j]),
          "b_wins": round(wins[j, i] - ties[i, j] / 2),
          **_rate(float(wins[i, j]), votes),
        }
      )
  return rows


def _systems(names, wins) -> list[dict[str, Any]]:
  """Against all others together, the best first."""
  rows = [
    {
      "name": name,
      "votes": round((wins[i] + wins[:, i]).sum()),
      **_rate(float(wins[i].sum()), round((wins[i] + wins[:, i]).sum())),
    }
    for i, name in enumerate(names)
  ]
  return sorted(rows, key=lambda row: -(row["rate"] or 0))


def _ranking(names, wins) -> tuple[list[dict[str, Any]] | None, str | None]:
  """The strongest first; or None, and why not."""
  try:
    strengths, deviations = bradley_terry(wins)
  except NoRankingError as error:
    table = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
    return None, f"not computed: {error} ({table}); gather more votes"
  return [
    {
      "name": names[i],
      "strength": float(strengths[i]),
      "interval": [
        float(strengths[i] - intervals.Z * deviations[i]),
        float(strengths[i] + intervals.Z * deviations[i]),
      ],
    }
    for i in np.argsort(-strengths, kind="stable")
  ], None


def _same(units) -> float | None:
  """Share of the pairs of raters of one pair who gave the same answer."""
  same = total = 0
  for unit in units:
    for value in (0, 0.5, 1):
      n = unit.count(value)
      same += n * (n - 1)
    total += len(unit) * (len(unit) - 1)
  return same / total if total else None


def _warnings(summary, min_votes) -> list[str]:
  """What to know before quoting the numbers."""
  lines = []
  few = [
    f"{row['a']} and {row['b']} {row['votes']}"
    for row in summary["matchups"]
    if row["votes"] < min_votes
  ]
  if few:
    lines.append(
      f"fewer than {min_votes} votes, too few to conclude from: "
      f"{', '.join(few)}."
    )
  if uneven := summary["protocol"].get("uneven"):
    lines.append(
      f"the motion of {', '.join(uneven)} was made uneven by the study's "
      f"{summary['protocol']['video']['fps']:g} frames a second, which raters "
      "may have judged."
    )
  if summary["raters"]["counted"] < 3:
    lines.append(
      f"{summary['raters']['counted']} raters are counted: this is the taste "
      "of a person, not of people."
    )
  interval = summary["left"]["interval"]
  if interval and not interval[0] <= 0.5 <= interval[1]:
    lines.append(
      f"clip A, on the left, was chosen in {summary['left']['rate']:.0%} of "
      "the votes: raters prefer a side, or click without looking."
    )
  alpha = summary["agreement"]["krippendorff_alpha"]
  if alpha is None:
    lines.append(
      "agreement is not computed: no pair has two votes, or all votes agree."
    )
  return lines


# ----------------------------------------------------------------- texts


def text(summary: Mapping[str, Any]) -> str:
  """The summary as tables for a terminal."""
  wide = max(len(s["name"]) for s in summary["systems"])
  lines = [f"{summary['question']}  ({_raters(summary)})", ""]
  for m in summary["matchups"]:
    lines.append(
      f"  {m['a']:<{wide}} over {m['b']:<{wide}}  {_percent(m):<24} "
      f"{m['a_wins']} won, {m['ties']} ties, {m['b_wins']} lost"
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
      _percent(m),
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
