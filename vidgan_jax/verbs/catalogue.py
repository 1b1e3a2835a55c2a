"""What the shipped weights are for, and their limits: `vidgan process --list`.

The texts are those of the model cards, `zoo/NAME.md`: the first sentence says
what a task is for, the paragraph **Limits.** where it fails.
"""

import dataclasses
import inspect
import json
import os
import pathlib
import platform
import re
import sys
import textwrap
import time
from typing import Any

import numpy as np

import vidgan_jax
from vidgan_jax.store import files
from vidgan_jax.video import plan
from vidgan_jax.video import stages
from vidgan_jax.video import stream

_FOLDER = pathlib.Path(vidgan_jax.__file__).parent / "zoo"
_HEIGHT, _WIDTH = 360, 640
_SIDE = 96  # pixels of the square that is timed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """What the card of shipped weights says.

  Attributes:
    spec: how `vidgan process` calls them.
    purpose: what they are for.
    limits: where they fail.
    weights: their file.
  """

  spec: str
  purpose: str
  limits: str
  weights: pathlib.Path


def cards(drawn: bool = False) -> list[Card]:
  """The cards of shipped weights, in order of their names.

  Args:
    drawn: those that draw clips, whose names have a hyphen; else those that
      work on footage.
  """
  out = []
  for weights in sorted(_FOLDER.glob("*.safetensors")):
    if ("-" in weights.stem) != drawn:
      continue
    text = weights.with_suffix(".md").read_text()
    _, purpose, *_ = text.split("\n\n")
    (limits,) = re.findall(r"\*\*Limits\.\*\* (.*?)\n\n", text, re.DOTALL)
    card = Card(
      spec=re.sub(r"_x(\d)$", r":scale=\1", weights.stem),
      purpose=" ".join(purpose.partition(":")[0].split()),
      limits=" ".join(limits.split()),
      weights=weights,
    )
    out.append(card)
  return out


def rows(drawn: bool = False) -> str:
  """A row for each of the shipped weights, for --help."""
  return "\n".join(f"  {c.spec:<24}{c.purpose}" for c in cards(drawn))


def show() -> None:
  """Prints the table; measures what was not measured on this machine yet."""
  from vidgan_jax import footage  # JAX, which --help does without

  footage.processes.use_cache()
  kept = _Speeds(footage.jax)
  print(f"{'SPEC':<23} {'MB':>5} {'FRAMES/S':>9}  OPTIONS; WHAT FOR")
  for card in cards():
    stage = footage.load(*_parsed(card.spec))
    rate = kept.get(card, stage)
    size = card.weights.stat().st_size / 1e6
    print(f"{card.spec:<23} {size:5.1f} {rate:9.2g}  {_options(stage)}")
    print(textwrap.indent(textwrap.fill(card.purpose, 72), 8 * " "))
    limits = textwrap.fill(f"Limits: {card.limits}", 72)
    print(textwrap.indent(limits, 8 * " "), flush=True)
  known = lambda step: inspect.signature(step).parameters
  takes = lambda step: ",".join(f"{name}=" for name in known(step))
  built_in = "  ".join(f"{k}:{takes(v)}" for k, v in stages.BUILT_IN.items())
  print(
    f"\nWithout a network: {built_in}"
    f"\nFRAMES/S: of the result, for {_WIDTH}x{_HEIGHT} that comes in, on this"
    f" machine ({kept.machine}), without reading and writing; measured anew"
    f" without {kept.path}. `--probe` says how long a file takes."
  )


def _parsed(spec: str) -> tuple[str, dict[str, int]]:
  name, _, scale = spec.partition(":scale=")
  return name, {"scale": int(scale)} if scale else {}


def _options(stage: stream.Stage) -> str:
  """Options of a stage, as SPEC takes them."""
  taken = stage.sampler.task.footage
  names = [*inspect.signature(taken.given).parameters][3:]
  names = [f"{n}=" for n in names] + ["fps=", "method="] * (taken.rate > 1)
  return ", ".join((["--mask"] if stage.masks else []) + names) or "none"


class _Speeds:
  """Frames a second of weights, kept beside what XLA compiled."""

  def __init__(self, jax: Any):
    """Reads what there is.

    Args:
      jax: the module.
    """
    device = jax.devices()[0].device_kind
    self.machine = f"{platform.node()}, {os.cpu_count()} x {device}"
    folder = jax.config.jax_compilation_cache_dir
    self.path = pathlib.Path(folder, "speeds.json") if folder else None
    self._known = {}
    if self.path and self.path.exists():
      try:
        self._known = json.loads(self.path.read_text())
      except ValueError:
        pass  # It is measured anew.

  def get(self, card: Card, stage: stream.Stage) -> float:
    """Frames a second; measures them the first time."""
    digest = files.digest(card.weights)[:16]
    key = f"{self.machine}, {card.spec} {digest}"
    if key not in self._known:
      print(f"measuring {card.spec}, once on this machine", file=sys.stderr)
      self._known[key] = _rate(stage)
      if self.path:
        files.write_json(self.path, self._known)
    return self._known[key]


def _rate(stage: stream.Stage) -> float:
  """Frames of the result a second, from a part of one window.

  A stage costs the same for every pixel that it sees. Those of a frame are the
  pixels of all windows that cover it, with their borders.
  """
  runner = stream.Runner(stage, memory=plan.window_memory(stage))
  size, rows, columns = runner.cover(_HEIGHT, _WIDTH)
  area = len(rows) * len(columns) * size[0] * size[1]
  shape = (runner.window, _SIDE, _SIDE)
  noise = np.random.default_rng(0).uniform(-1, 1, (*shape, 3))
  noise, mask = noise.astype(np.float32), np.ones((*shape, 1), np.float32)
  image = stream.to_integer(noise[0], np.uint8)
  frame = stream.Frame(time=0, duration=0, image=image)
  stage = stage.look([frame] * runner.window, frame)
  seconds = []
  for _ in range(3):  # The first one compiles.
    began = time.perf_counter()
    stage(noise, np.arange(runner.window) / 25, mask)
    seconds.append(time.perf_counter() - began)
  return runner.step * _SIDE**2 / (area * min(seconds[1:]))
