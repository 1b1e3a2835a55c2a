"""`report.html`: one page with all results of an evaluation.

Curves, a table with intervals, film strips, protocols and settings. The file
holds everything itself: no script, no font, no address; it opens from a disk,
prints, and follows the reader's light or dark theme. The same numbers give the
same bytes.
"""

import base64
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import io
import json
import math
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.reports import chart
from vidgan_jax.reports import texts
from vidgan_jax.store import files
from vidgan_jax.store import provenance

_STYLE = pathlib.Path(__file__).with_suffix(".css")
_ROWS = 4  # Film strips shown of the best, of the worst.
_FRAMES = 8  # Of a film strip.
_OPEN = 16  # Rows of a table of videos that is not folded away.
_LOSSLESS = 64  # Pixels: larger frames are kept as lossy pictures.
_LARGEST = 192  # Pixels: larger frames are shrunk.


def render(
  records: Mapping[int, Mapping[str, Any]],
  exhibits: Mapping[str, evals.Exhibit],
  settings: Mapping[str, Any],
  path: str | os.PathLike,
  *,
  videos: Mapping[str, Mapping[str, float]] | None = None,
) -> pathlib.Path:
  """Writes the page; the old one is there until the new one is complete.

  Args:
    records: step -> name -> `evals.Value`, its record as in eval/STEP.json, or
      a plain number. A name that ends in /raw is that of the weights that are
      not averaged.
    exhibits: title -> clips.
    settings: nested mappings of plain values. Two keys have a place of their
      own: 'title', and 'versions', which default to those of this process.
    path: of the page.
    videos: name of a video -> metric -> its own number.

  Returns:
    The path.

  Raises:
    ValueError: there is nothing to show, or clips of another shape.
  """
  if not any(records.values()):
    raise ValueError(
      "A report needs records: {step: {name: record}}; there is none. Run "
      "`vidgan evaluate` with at least one metric first."
    )
  table = _Table(records)
  settings = dict(settings)
  title = str(settings.pop("title", "Evaluation"))
  versions = settings.pop("versions", None) or provenance.versions()
  steps = table.steps
  facts = [f"step {texts.whole(steps[-1])}"] if steps != [0] else []  # Files.
  if len(steps) > 1:
    facts.append(f"{len(steps)} checkpoints from step {texts.whole(steps[0])}")
  if len(table.sides) > 1:
    facts.append("averaged (ema) and raw weights")
  body = [
    f"<header><h1>{texts.safe(title)}</h1>"
    f"<p>{texts.safe(' · '.join(facts))}</p></header>",
    _section("Newest values", _newest(table)),
    _section("Over training", "".join(_curves(table))),
    _section("Samples", "".join(_exhibit(t, e) for t, e in exhibits.items())),
    _section("Each video", _videos(dict(videos or {}))),
    _section("Protocols", _protocols(table)),
    _section(
      "Settings",
      _details("Settings of this run", _facts(settings))
      + _details("Versions", _facts(versions)),
    ),
  ]
  page = _PAGE.format(
    title=texts.safe(title), style=_STYLE.read_text(), body="\n".join(body)
  )
  path = pathlib.Path(path)
  # Names of files may hold bytes that are not text.
  files.write_bytes(path, page.encode(errors="backslashreplace"))
  return path


# -------------------------------------------------------------------- records


class _Table:
  """Records by metric, weights and step.

  Attributes:
    steps: in order.
    names: of the metrics, in order of their first appearance.
    sides: of "ema" and "raw" those that are there.
    cells: (name, side) -> {step: record}.
  """

  def __init__(self, records):
    for step in records:
      if isinstance(step, bool) or not isinstance(step, (int, np.integer)):
        raise ValueError(f"Steps of a report are integers, not {step!r}.")
    self.steps = sorted(step for step in records if records[step])
    self.cells: dict[tuple[str, str], dict[int, evals.Value]] = {}
    for step in self.steps:
      for key, value in records[step].items():
        name = key.removesuffix("/raw")
        side = "ema" if name == key else "raw"
        cell = self.cells.setdefault((name, side), {})
        cell[step] = _record(value, f"{key!r} of step {step}")
    self.names = list(dict.fromkeys(name for name, _ in self.cells))
    there = {side for _, side in self.cells}
    self.sides = [side for side in ("ema", "raw") if side in there]


def _record(value: Any, where: str) -> evals.Value:
  """A `Value` of what a file holds, whose NaN are texts; checked."""
  try:
    if isinstance(value, Mapping):
      low, high = value.get("interval") or (value.get("low"), value.get("high"))
      value = evals.Value(
        value["value"],
        low,
        high,
        num=value.get("num"),
        protocol=value.get("protocol") or {},
        note=str(value.get("note") or ""),
        unit=str(value.get("unit") or ""),
        better=value.get("better") or "",
      )
    elif not isinstance(value, evals.Value):
      value = evals.Value(value)
    ends = [x if x is None else float(x) for x in (value.low, value.high)]
    if None in ends or not all(map(math.isfinite, ends)):
      ends = [None, None]
    protocol = json.loads(json.dumps(dict(value.protocol)))
    _count(value.num)  # It can be shown.
    return dataclasses.replace(
      value, value=float(value), low=ends[0], high=ends[1], protocol=protocol
    )
  except (TypeError, ValueError, KeyError) as e:
    raise errors.UserError(
      f"The record {where} is {value!r}, which cannot be shown ({e}); it needs "
      "a number as value, two as interval or none, and a protocol of plain "
      "JSON."
    ) from e


def _better(record: evals.Value) -> str:
  """In words, where there is something to say."""
  return f"{record.better} is better" if record.better else ""


# ---------------------------------------------------------------------- table


def _newest(table: _Table) -> str:
  """The last value of every metric, and what could not be computed."""
  newest, rows, missing = table.steps[-1], [], []
  last = {key: max(cell) for key, cell in table.cells.items()}
  old = any(step != newest for step in last.values())
  for name in table.names:
    cells, records = [], []
    for side in table.sides:
      step = last.get((name, side))
      record = None if step is None else table.cells[name, side][step]
      cells.append(_cell(record, step if step != newest else None))
      records += [record] if record else []
    if all(math.isnan(r.value) for r in records):
      notes = dict.fromkeys(r.note or "not computed" for r in records)
      missing.append((name, "; ".join(notes)))
      continue
    if len(records) == 2 and not evals.told_apart(*records):
      verdict = f"<small>{evals.NOT_APART}</small></td>"
      cells[-1] = cells[-1].removesuffix("</td>") + verdict
    counts = dict.fromkeys(_count(r.num) for r in records)
    links = dict.fromkeys(_link(r) for r in records if r.protocol)
    sub = ", ".join(filter(None, (records[0].unit, _better(records[0]))))
    rows.append(
      f'<tr><th scope="row">{texts.safe(name)}'
      + (f"<small>{texts.safe(sub)}</small>" if sub else "")
      + f"</th>{''.join(cells)}<td>{'<br>'.join(counts)}</td>"
      f"<td>{' '.join(links)}</td></tr>"
    )
  heads = [side if len(table.sides) > 1 else "value" for side in table.sides]
  out = ""
  if rows:
    out = (
      '<div class="wide"><table><thead><tr><th scope="col">metric</th>'
      + "".join(f'<th scope="col" class="n">{h}</th>' for h in heads)
      + '<th scope="col">clips</th><th scope="col">protocol</th></tr></thead>'
      f"<tbody>{''.join(rows)}</tbody></table></div>"
      '<p class="quiet">In brackets: 95 % intervals over repetitions with as '
      "many clips. Values of different protocols cannot be compared."
      + (" A step is named where it is not the newest." if old else "")
      + "</p>"
    )
  if missing:
    items = "".join(
      f"<dt>{texts.safe(name)}</dt><dd>{texts.safe(note)}</dd>"
      for name, note in missing
    )
    out += f'<h3>Not computed</h3><dl class="facts">{items}</dl>'
  return out


def _cell(record: evals.Value | None, step: int | None) -> str:
  if record is None:
    return '<td class="n quiet">–</td>'
  text = f"<b>{texts.number(record.value)}</b>"
  if record.low is not None:
    text += (
      f" <span>[{texts.number(record.low)}, {texts.number(record.high)}]</span>"
    )
  notes = [record.note] if record.note else []
  if step is not None:
    notes.append(f"step {texts.whole(step)}")
  if notes:
    text += f"<small>{texts.safe('; '.join(notes))}</small>"
  return f'<td class="n">{text}</td>'


def _count(num: Any) -> str:
  if num is None:
    return ""
  if isinstance(num, Mapping):
    return texts.safe(
      ", ".join(f"{texts.whole(n)} {side}" for side, n in num.items())
    )
  return texts.safe(texts.whole(num))


def _link(record: evals.Value) -> str:
  name = record.hash
  return f'<a href="#protocol-{name}"><code>{name}</code></a>'


# --------------------------------------------------------------------- curves


def _curves(table: _Table) -> Iterator[str]:
  """One figure for each metric that has values at two steps or more."""
  for name in table.names:
    lines = {}
    for side in table.sides:
      cell = table.cells.get((name, side), {})
      points = [(s, r) for s, r in cell.items() if math.isfinite(r.value)]
      if points:
        lines[side] = points
    points = [point for line in lines.values() for point in line]
    if len({step for step, _ in points}) < 2:
      continue
    newest = points[-1][1]
    legend = "".join(
      f'<span class="{side}"><i></i>{side if len(table.sides) > 1 else ""} '
      f"<b>{texts.number(line[-1][1].value)}</b></span>"
      for side, line in lines.items()
    )
    yield (
      f"<figure><figcaption><h3>{texts.safe(name)}</h3>"
      f"<small>{texts.safe(_better(newest))}</small>{legend}</figcaption>"
      f"{chart.draw(name, newest.unit, lines)}</figure>"
    )


# ------------------------------------------------------------------- pictures


def _exhibit(title: str, exhibit: evals.Exhibit) -> str:
  """The best and the worst clips, or the first ones; or clips over others."""
  if exhibit.clips is None:
    return ""
  clips = _clips(exhibit.clips, title)
  head = f"<h3>{texts.safe(title)}</h3>"
  if exhibit.note:
    head += f'<p class="quiet">{texts.safe(exhibit.note)}</p>'
  order, scores = range(len(clips)), None
  if exhibit.scores is not None:
    scores = _numbers(exhibit.scores, len(clips), f"scores of {title!r}")
    if exhibit.better not in ("lower", "higher"):
      raise ValueError(
        f"{title!r}: better is {exhibit.better!r}; say 'lower' or 'higher'."
      )
    sign = 1 if exhibit.better == "lower" else -1
    order = np.argsort(sign * scores, kind="stable")
  if exhibit.beside is not None:
    return head + _beside(title, clips, exhibit, order, scores)

  def rows(chosen):
    score = lambda i: "" if scores is None else f", {texts.number(scores[i])}"
    return _strips(
      [(clips[i], f"clip {i}{score(i)}") for i in chosen], exhibit.fps
    )

  if scores is None:
    return head + rows(order[: 2 * _ROWS])
  count = min(_ROWS, -(-len(order) // 2))
  name = texts.safe(exhibit.score)
  out = f"{head}<h4>Best by {name}</h4>{rows(order[:count])}"
  if len(order) > count:
    worst = order[max(count, len(order) - count) :][::-1]
    out += f"<h4>Worst by {name}</h4>{rows(worst)}"
  return out


def _beside(title, clips, exhibit, order, scores) -> str:
  """Each clip over the one beside it, the best first."""
  others = _clips(exhibit.beside, f"{title}, {exhibit.captions[1]}")
  if len(clips) != len(others):
    raise ValueError(
      f"{title!r}: {len(clips)} clips and {len(others)} beside them; give one "
      "for each."
    )
  out = []
  for i in order[: 2 * _ROWS]:
    above, below = exhibit.captions
    if scores is not None:
      above += f", {texts.number(scores[i])}"
    strips = _strips([(clips[i], above), (others[i], below)], exhibit.fps)
    out.append(f'<div class="pair">{strips}</div>')
  return "".join(out)


def _videos(rows: Mapping[str, Mapping[str, float]]) -> str:
  """A row for each video; many are folded away."""
  names = list(dict.fromkeys(name for row in rows.values() for name in row))
  if not names:
    return ""
  heads = "".join(
    f'<th scope="col" class="n">{texts.safe(n)}</th>' for n in names
  )
  body = "".join(
    f'<tr><th scope="row">{texts.safe(video)}</th>'
    + "".join(
      f'<td class="n">{texts.number(row.get(n, math.nan))}</td>' for n in names
    )
    + "</tr>"
    for video, row in rows.items()
  )
  table = (
    '<div class="wide"><table><thead><tr><th scope="col">video</th>'
    f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
  )
  if len(rows) <= _OPEN:
    return table
  return _details(f"{len(rows)} videos", table)


def _clips(clips: Any, title: str) -> np.ndarray:
  """Clips of an exhibit: made if need be, and looked at."""
  clips = clips() if callable(clips) else clips
  shape = np.shape(clips)
  dtype = clips.dtype if isinstance(clips, np.ndarray) else type(clips)
  if len(shape) != 5 or shape[-1] != 3 or dtype != np.uint8 or 0 in shape:
    raise ValueError(
      f"The clips {title!r} are {shape} {dtype}; a report shows at least one, "
      "(N, T, H, W, 3) uint8."
    )
  return clips


def _numbers(values: Any, count: int, name: str) -> np.ndarray:
  values = np.asarray(values, np.float64)
  if values.shape != (count,) or not np.isfinite(values).all():
    raise ValueError(
      f"The {name} are {values.shape}; give a finite number for each of the "
      f"{count} clips."
    )
  return values


def _strips(rows: Sequence[tuple[np.ndarray, str]], fps: float) -> str:
  """Rows of frames; the first one plays while the pointer is on it."""
  out = []
  for clip, caption in rows:
    few = np.linspace(0, len(clip) - 1, min(_FRAMES, len(clip))).round()
    frames = [_small(frame) for frame in clip]
    moving = "".join(
      f'<img class="{name}" alt="" src="{_image(images, fps)}">'
      for name, images in (("still", frames[:1]), ("moving", frames))
    )
    strip = np.concatenate([frames[int(i)] for i in few], 1)
    height, width = strip.shape[:2]
    alt = f"{caption}: {len(few)} of {len(clip)} frames"
    crisp = " crisp" if height <= _LOSSLESS else ""
    out.append(
      f'<div class="row{crisp}"><span class="play" tabindex="0" '
      f'title="plays while the pointer is here">{moving}</span>'
      f'<img class="strip" alt="{texts.safe(alt)}" width="{width}" '
      f'height="{height}" src="{_image([strip], fps)}">'
      f"<p>{texts.safe(caption)}</p></div>"
    )
  return f'<div class="strips">{"".join(out)}</div>'


def _small(frame: np.ndarray) -> np.ndarray:
  """At most 192 pixels high and wide."""
  height, width = frame.shape[:2]
  if max(height, width) <= _LARGEST:
    return frame
  share = _LARGEST / max(height, width)
  size = (max(1, round(width * share)), max(1, round(height * share)))
  return np.asarray(Image.fromarray(frame).resize(size, Image.LANCZOS))


def _image(frames: Sequence[np.ndarray], fps: float) -> str:
  """A data address of one picture, or of a moving one."""
  first, *rest = (Image.fromarray(frame) for frame in frames)
  options: dict[str, Any] = {"quality": 90, "method": 4}
  if min(first.size) <= _LOSSLESS:
    options = {"lossless": True, "quality": 60, "method": 2}
  if rest:
    options |= {
      "save_all": True,
      "append_images": rest,
      "duration": max(20, round(1000 / fps)),
      "loop": 0,
    }
  data = io.BytesIO()
  first.save(data, "WEBP", **options)
  return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


# -------------------------------------------------------- protocols, settings


def _protocols(table: _Table) -> str:
  """A card for each protocol, with the metrics that it belongs to."""
  cards: dict[str, tuple[Mapping, list[str]]] = {}
  for (name, _), cell in table.cells.items():
    for record in reversed(cell.values()):  # The newest card is shown.
      if record.protocol:
        names = cards.setdefault(record.hash, (record.protocol, []))[1]
        if name not in names:
          names.append(name)
  return "".join(
    _details(
      f"<code>{texts.safe(key)}</code> {texts.safe(', '.join(names))}",
      _facts(protocol, f"protocol-{key}"),
      raw=True,
    )
    for key, (protocol, names) in cards.items()
  )


def _facts(facts: Mapping[str, Any], name: str = "") -> str:
  """Nested values, flat, as a list of names and values."""
  items = "".join(
    f"<dt>{texts.safe(key)}</dt><dd>{texts.safe(value)}</dd>"
    for key, value in _flat(facts, "")
  )
  return (
    f'<dl class="facts" id="{texts.safe(name)}">{items}</dl>' if items else ""
  )


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
  if isinstance(value, Mapping) and value:
    for key, inner in value.items():
      yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
  elif isinstance(value, str):
    yield prefix, value
  else:
    yield prefix, json.dumps(value, default=str)


# ----------------------------------------------------------------------- text


def _section(title: str, body: str) -> str:
  if not body:
    return ""
  name = title.lower().replace(" ", "-")
  return f'<section class="{name}"><h2>{title}</h2>{body}</section>'


def _details(summary: str, body: str, raw: bool = False) -> str:
  if not body:
    return ""
  summary = summary if raw else texts.safe(summary)
  return f"<details><summary>{summary}</summary>{body}</details>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
