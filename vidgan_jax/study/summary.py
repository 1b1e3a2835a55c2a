"""What the answers of a study say, and how far to trust it.

Win rates with Wilson intervals, a ranking by the model of Bradley and Terry
with intervals from the observed information, and the agreement of raters as
Krippendorff's alpha. A tie counts half a win for each side. Raters who failed
their attention checks are left out and counted.

The intervals take every vote for an independent draw. Many raters on few clips
are not that: use many pairs rather than many votes a pair.
"""

import statistics
from typing import Any

import numpy as np

from vidgan_jax.measures import intervals
from vidgan_jax.measures import votes as votes_lib
from vidgan_jax.study import store


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
      rows, begun = store.collected(answers)
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
      "krippendorff_alpha": votes_lib.krippendorff(list(units.values())),
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
    strengths, deviations = votes_lib.bradley_terry(wins)
  except votes_lib.NoRankingError as error:
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
