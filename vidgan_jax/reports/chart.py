"""Values over the steps of training, as SVG with the classes of the page."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import math

from vidgan_jax import evals
from vidgan_jax.reports import texts

Line = Sequence[tuple[int, evals.Value]]
_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 20, 26


def draw(name: str, unit: str, lines: Mapping[str, Line]) -> str:
  """Lines with their bands.

  Args:
    name: of the metric.
    unit: of its values.
    lines: weights ("ema", "raw") -> (step, finite value) in order, at two steps
      or more in all.
  """
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
      f'class="end">{texts.short(tick)}</text>'
    )
  for tick in _ticks(first, last, inside=True):
    at = x(tick)
    out.append(
      f'<text x="{at:.1f}" y="{_HEIGHT - 9}" class="mid">'
      f"{texts.short(tick)}</text>"
      f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" '
      f'y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM + 4}"/>'
    )
  bottom, scales = _HEIGHT - _BOTTOM, (unit, "log scale" if log else "")
  out.append(
    f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" '
    f'y2="{bottom}"/>'
    f'<text x="2" y="{_HEIGHT - 9}">step</text>'
    f'<text x="0" y="9">{texts.safe(" ".join(filter(None, scales)))}</text>'
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
      hint = f"step {texts.whole(step)}: {texts.number(r.value)}"
      if r.low is not None:
        hint += f" [{texts.number(r.low)}, {texts.number(r.high)}]"
      hint += f", {side}" if len(lines) > 1 else ""
      # The wide ring is where a pointer finds the small dot.
      out.append(
        f'<g class="{side}"><circle class="near" cx="{x(step):.1f}" '
        f'cy="{y(r.value):.1f}" r="9"/><circle cx="{x(step):.1f}" '
        f'cy="{y(r.value):.1f}" r="2.4"/>'
        f"<title>{texts.safe(hint)}</title></g>"
      )
  label = f"{name} over training steps"
  return (
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{texts.safe(label)}">{"".join(out)}</svg>'
  )


def _runs(line: Line) -> Iterator[Line]:
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
