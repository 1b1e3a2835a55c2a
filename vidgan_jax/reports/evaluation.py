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
import html
import io
import json
import math
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from vidgan_jax import evals
from vidgan_jax.store import files
from vidgan_jax.store import provenance

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
  facts = [f"step {_whole(steps[-1])}"] if steps != [0] else []  # Files.
  if len(steps) > 1:
    facts.append(f"{len(steps)} checkpoints from step {_whole(steps[0])}")
  if len(table.sides) > 1:
    facts.append("averaged (ema) and raw weights")
  body = [
    f"<header><h1>{_text(title)}</h1>"
    f"<p>{_text(' · '.join(facts))}</p></header>",
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
  page = _PAGE.format(title=_text(title), style=_STYLE, body="\n".join(body))
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
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
        note=value.get("note") or "",
        unit=value.get("unit") or "",
        better=value.get("better") or "",
      )
    elif not isinstance(value, evals.Value):
      value = evals.Value(value)
    ends = [x if x is None else float(x) for x in (value.low, value.high)]
    if None in ends or not all(map(math.isfinite, ends)):
      ends = [None, None]
    protocol = json.loads(json.dumps(dict(value.protocol)))
    return dataclasses.replace(
      value, value=float(value), low=ends[0], high=ends[1], protocol=protocol
    )
  except (TypeError, ValueError, KeyError) as e:
    raise ValueError(
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
    counts = dict.fromkeys(_count(r.num) for r in records)
    links = dict.fromkeys(_link(r) for r in records if r.protocol)
    sub = ", ".join(filter(None, (records[0].unit, _better(records[0]))))
    rows.append(
      f'<tr><th scope="row">{_text(name)}'
      + (f"<small>{_text(sub)}</small>" if sub else "")
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
      f"<dt>{_text(name)}</dt><dd>{_text(note)}</dd>" for name, note in missing
    )
    out += f'<h3>Not computed</h3><dl class="facts">{items}</dl>'
  return out


def _cell(record: evals.Value | None, step: int | None) -> str:
  if record is None:
    return '<td class="n quiet">–</td>'
  text = f"<b>{_number(record.value)}</b>"
  if record.low is not None:
    text += f" <span>[{_number(record.low)}, {_number(record.high)}]</span>"
  notes = [record.note] if record.note else []
  if step is not None:
    notes.append(f"step {_whole(step)}")
  if notes:
    text += f"<small>{_text('; '.join(notes))}</small>"
  return f'<td class="n">{text}</td>'


def _count(num: Any) -> str:
  if num is None:
    return ""
  if isinstance(num, Mapping):
    return _text(", ".join(f"{_whole(n)} {side}" for side, n in num.items()))
  return _text(_whole(num))


def _link(record: evals.Value) -> str:
  name = record.hash
  return f'<a href="#protocol-{name}"><code>{name}</code></a>'


# --------------------------------------------------------------------- curves

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 20, 26


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
      f"<b>{_number(line[-1][1].value)}</b></span>"
      for side, line in lines.items()
    )
    yield (
      f"<figure><figcaption><h3>{_text(name)}</h3>"
      f"<small>{_text(_better(newest))}</small>{legend}</figcaption>"
      f"{_chart(name, newest.unit, lines)}</figure>"
    )


def _chart(name: str, unit: str, lines: Mapping[str, list]) -> str:
  """Lines with their bands, as SVG."""
  points = [point for line in lines.values() for point in line]
  steps = [step for step, _ in points]
  values = [r.value for _, r in points]
  ends = [x for _, r in points for x in (r.low, r.high) if x is not None]
  lowest, highest = min(values + ends), max(values + ends)
  # Orders of magnitude need a scale that shows them.
  log = min(values) > 0 and max(values) / min(values) > 50
  if log:
    lowest = max(lowest, min(values) / 3)
    scale, ticks = math.log10, _decades(lowest, highest)
  else:
    scale, ticks = float, _ticks(lowest, highest)
  floor = min(lowest, ticks[0])
  low, high = scale(floor), scale(max(highest, ticks[-1]))
  first, last = min(steps), max(steps)

  def x(step):
    share = (step - first) / (last - first)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

  def y(value):
    share = (scale(max(value, floor)) - low) / (high - low)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

  out = []
  for tick in ticks:
    at = y(tick)
    out.append(
      f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" '
      f'y2="{at:.1f}"/><text x="{_LEFT - 7}" y="{at + 3.5:.1f}" '
      f'class="end">{_short(tick)}</text>'
    )
  for tick in _ticks(first, last, inside=True):
    at = x(tick)
    out.append(
      f'<text x="{at:.1f}" y="{_HEIGHT - 9}" class="mid">{_short(tick)}</text>'
      f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" '
      f'y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM + 4}"/>'
    )
  bottom, scales = _HEIGHT - _BOTTOM, (unit, "log scale" if log else "")
  out.append(
    f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" '
    f'y2="{bottom}"/>'
    f'<text x="2" y="{_HEIGHT - 9}">step</text>'
    f'<text x="0" y="9">{_text(" ".join(filter(None, scales)))}</text>'
  )
  for side, line in reversed(lines.items()):  # ema lies on top.
    for run in _runs(line):
      band = [(x(s), y(r.low), y(r.high)) for s, r in run if r.low is not None]
      if len(band) > 1:
        around = [(a, c) for a, _, c in band] + [
          (a, b) for a, b, _ in band[::-1]
        ]
        out.append(f'<polygon class="{side}" points="{_path(around)}"/>')
      elif band:
        (a, b, c), *_ = band
        out.append(
          f'<line class="{side} bar" x1="{a:.1f}" x2="{a:.1f}" y1="{b:.1f}" '
          f'y2="{c:.1f}"/>'
        )
      where = [(x(s), y(r.value)) for s, r in run]
      out.append(f'<polyline class="{side}" points="{_path(where)}"/>')
    for step, r in line:
      hint = f"step {_whole(step)}: {_number(r.value)}"
      if r.low is not None:
        hint += f" [{_number(r.low)}, {_number(r.high)}]"
      hint += f", {side}" if len(lines) > 1 else ""
      # The wide ring is where a pointer finds the small dot.
      out.append(
        f'<g class="{side}"><circle class="near" cx="{x(step):.1f}" '
        f'cy="{y(r.value):.1f}" r="9"/><circle cx="{x(step):.1f}" '
        f'cy="{y(r.value):.1f}" r="2.4"/><title>{_text(hint)}</title></g>'
      )
  label = f"{name} over training steps"
  return (
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{_text(label)}">{"".join(out)}</svg>'
  )


def _runs(line: Sequence[tuple[int, evals.Value]]) -> Iterator[list]:
  """Stretches of one protocol: values of two must not be joined by a line."""
  run = []
  for step, record in line:
    if run and record.hash != run[-1][1].hash:
      yield run
      run = []
    run.append((step, record))
  yield run


def _path(points) -> str:
  return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _ticks(low: float, high: float, inside: bool = False) -> list[float]:
  """About four round numbers around, or inside, an interval."""
  if low == high:
    low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
  size = (high - low) / 4
  power = 10.0 ** math.floor(math.log10(size))
  step = next(
    m * power for m in (1, 2, 2.5, 5, 10) if m * power >= 0.999 * size
  )
  if inside:
    start, stop = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  else:
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [i * step for i in range(start, stop + 1)]


def _decades(low: float, high: float) -> list[float]:
  """Powers of ten around an interval, every n-th of many."""
  start, stop = math.floor(math.log10(low)), math.ceil(math.log10(high))
  every = -(-(stop - start) // 5)
  return [10.0**i for i in range(start, stop + every, every)]


# ------------------------------------------------------------------- pictures


def _exhibit(title: str, exhibit: evals.Exhibit) -> str:
  """The best and the worst clips, or the first ones; or clips over others."""
  if exhibit.clips is None:
    return ""
  clips = _clips(exhibit.clips, title)
  head = f"<h3>{_text(title)}</h3>"
  if exhibit.note:
    head += f'<p class="quiet">{_text(exhibit.note)}</p>'
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
    score = lambda i: "" if scores is None else f", {_number(scores[i])}"
    return _strips(
      [(clips[i], f"clip {i}{score(i)}") for i in chosen], exhibit.fps
    )

  if scores is None:
    return head + rows(order[: 2 * _ROWS])
  count = min(_ROWS, -(-len(order) // 2))
  name = _text(exhibit.score)
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
      above += f", {_number(scores[i])}"
    strips = _strips([(clips[i], above), (others[i], below)], exhibit.fps)
    out.append(f'<div class="pair">{strips}</div>')
  return "".join(out)


def _videos(rows: Mapping[str, Mapping[str, float]]) -> str:
  """A row for each video; many are folded away."""
  names = list(dict.fromkeys(name for row in rows.values() for name in row))
  if not names:
    return ""
  heads = "".join(f'<th scope="col" class="n">{_text(n)}</th>' for n in names)
  body = "".join(
    f'<tr><th scope="row">{_text(video)}</th>'
    + "".join(
      f'<td class="n">{_number(row.get(n, math.nan))}</td>' for n in names
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
      f'<img class="strip" alt="{_text(alt)}" width="{width}" '
      f'height="{height}" src="{_image([strip], fps)}">'
      f"<p>{_text(caption)}</p></div>"
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
      f"<code>{_text(key)}</code> {_text(', '.join(names))}",
      _facts(protocol, f"protocol-{key}"),
      raw=True,
    )
    for key, (protocol, names) in cards.items()
  )


def _facts(facts: Mapping[str, Any], name: str = "") -> str:
  """Nested values, flat, as a list of names and values."""
  items = "".join(
    f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>"
    for key, value in _flat(facts, "")
  )
  return f'<dl class="facts" id="{_text(name)}">{items}</dl>' if items else ""


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
  summary = summary if raw else _text(summary)
  return f"<details><summary>{summary}</summary>{body}</details>"


def _text(value: Any) -> str:
  return html.escape(str(value), quote=True)


def _number(value: float) -> str:
  """Four digits; whole and large ones in groups."""
  value = float(value)
  if not math.isfinite(value):
    return {"inf": "∞", "-inf": "−∞"}.get(str(value), "–")
  if 1000 <= abs(value) < 1e15:
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return _minus(f"{float(f'{value:.4g}'):,.{digits}f}".replace(",", "\u202f"))
  text, _, power = f"{value:.4g}".partition("e")
  return _minus(f"{text}e{int(power)}" if power else text)


def _whole(num: Any) -> str:
  """A count, all of its digits, in groups."""
  if isinstance(num, (int, np.integer)) or float(num).is_integer():
    return f"{int(num):,}".replace(",", "\u202f")
  return _number(num)


def _short(value: float) -> str:
  """For an axis: 20k, 1.5M."""
  for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
    if abs(value) >= size:
      return _minus(f"{value / size:.4g}{letter}")
  text, _, power = f"{value:.4g}".partition("e")
  return _minus(f"{text}e{int(power)}" if power else text)


def _minus(text: str) -> str:
  return text.replace("-", "−")


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
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root {
  --ground: #fcfcfa; --raised: #fff; --line: #e4e4df; --text: #1c1d20;
  --quiet: #65676c; --ema: #1f66c9; --raw: #b8600b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #17181b; --raised: #1f2024; --line: #35373c; --text: #e9e9ec;
    --quiet: #9da0a7; --ema: #7fb0ff; --raw: #f0a860;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1, h2, h3, h4, p, figure, dl, dd { margin: 0; }
h1 { font-size: 1.75rem; line-height: 1.25; font-weight: 650;
  overflow-wrap: anywhere; }
header p, .quiet, small { color: var(--quiet); }
header p { margin-top: .3rem; }
section { margin-top: 3rem; }
h2 { font-size: 1.15rem; font-weight: 650; margin-bottom: 1rem; }
h3 { font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
h4 { font-size: .85rem; font-weight: 500; color: var(--quiet);
  margin: 1rem 0 .4rem; }
p.quiet { font-size: .85rem; margin-top: .7rem; }
small { display: block; font-size: .8rem; font-weight: 400; }
code { font: .85em/1 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
a { color: inherit; text-decoration-color: var(--quiet);
  text-underline-offset: 3px; }
a:focus-visible, summary:focus-visible, .play:focus-visible {
  outline: 2px solid var(--ema); outline-offset: 2px; }

.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .5rem 1.2rem .5rem 0; text-align: left;
  vertical-align: baseline; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-size: .8rem; font-weight: 500; color: var(--quiet); }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 11rem; }
.n { white-space: nowrap; }
.n small { white-space: normal; max-width: 18rem; }
td b { font-weight: 650; }
td span { color: var(--quiet); font-size: .87rem; margin-left: .3rem; }

.newest-values h3 { margin: 1.8rem 0 .6rem; }
.over-training { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.over-training h2 { grid-column: 1 / -1; margin: 0; }
figure { background: var(--raised); border: 1px solid var(--line);
  border-radius: 10px; padding: .9rem 1rem .6rem; break-inside: avoid; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 .9rem;
  align-items: baseline; font-variant-numeric: tabular-nums; }
figcaption h3 { flex: 1 0 100%; }
figcaption small { flex: 1; }
figcaption span { font-size: .85rem; white-space: nowrap; }
figcaption b { font-weight: 600; }
i { display: inline-block; width: .6rem; height: .2rem; border-radius: 1px;
  background: currentColor; vertical-align: .25em; margin-right: .3rem; }
.ema { --own: var(--ema); } .raw { --own: var(--raw); }
i { background: var(--own); }
svg { display: block; width: 100%; height: auto; margin-top: .4rem; }
svg text { font-size: 10.5px; fill: var(--quiet);
  font-variant-numeric: tabular-nums; }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
.grid { stroke: var(--line); }
.axis { stroke: var(--quiet); stroke-opacity: .6; }
polyline { fill: none; stroke: var(--own); stroke-width: 1.8;
  stroke-linejoin: round; stroke-linecap: round; }
polygon { fill: var(--own); fill-opacity: .14; }
.bar { stroke: var(--own); stroke-opacity: .35; stroke-width: 4; }
circle { fill: var(--own); } .near { fill-opacity: 0; }
g:hover .near { fill-opacity: .18; }

.strips { display: grid; gap: .6rem; margin-top: .6rem; }
.samples h3:not(:first-of-type) { margin-top: 2rem; }
.row { display: grid; gap: .2rem .6rem; align-items: start;
  grid-template-columns: auto minmax(0, 1fr); break-inside: avoid; }
.row p { grid-column: 1 / -1; color: var(--quiet); font-size: .8rem;
  font-variant-numeric: tabular-nums; }
.row img { display: block; border-radius: 4px; }
.play img { height: var(--tall); width: auto; }
.strips { --tall: clamp(3.4rem, 10vw, 7rem); }
.strip { height: auto; width: auto; max-width: 100%; max-height: var(--tall); }
.crisp .strip { height: var(--tall); width: auto; object-fit: contain;
  object-position: left top; }
.crisp img { image-rendering: pixelated; }
.play .moving, .play:is(:hover, :focus) .still { display: none; }
.play:is(:hover, :focus) .moving { display: block; }
.pair { border-left: 3px solid var(--line); padding-left: .9rem;
  margin-top: 1.2rem; break-inside: avoid; }

details { border-bottom: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.facts { display: grid; gap: .2rem 1.5rem; font-size: .87rem;
  grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr);
  padding: .5rem 0; }
dt { color: var(--quiet); overflow-wrap: anywhere; max-width: 20rem; }
dd { overflow-wrap: anywhere; white-space: pre-wrap; }
.newest-values dt { color: var(--text); font-weight: 500; }
.newest-values dd { color: var(--quiet); }

@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media print {
  :root {
    --ground: #fff; --raised: #fff; --line: #d5d5d5; --text: #000;
    --quiet: #555; --ema: #1f66c9; --raw: #b8600b;
  }
  body { font-size: 10pt; -webkit-print-color-adjust: exact;
    print-color-adjust: exact; }
  main { padding: 0; max-width: none; }
  section { margin-top: 1.5rem; }
  .over-training { grid-template-columns: 1fr 1fr; }
  h2, h3, h4 { break-after: avoid; }
  tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
