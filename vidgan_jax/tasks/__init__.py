"""What is given to the generator and what is its target, one file each.

A task is a file with `make(**options) -> Task`, found by its name. Tasks from
clip to clip import TensorFlow inside `prepare`, so that real footage is
processed without it.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import importlib
from typing import Any

import numpy as np

from vidgan_jax import config
from vidgan_jax import pixels
from vidgan_jax import rooms

STATISTICS = 48  # Numbers a frame of `statistics`.


def subdivide(times: np.ndarray, rate: int) -> np.ndarray:
  """Puts rate - 1 times between each two: (T,) -> ((T - 1) * rate + 1,)."""
  times = np.asarray(times)
  at = np.arange((len(times) - 1) * rate + 1) / rate
  return np.interp(at, np.arange(len(times)), times).astype(times.dtype)


def preview(batch: Mapping[str, Any], fake: Any) -> dict[str, Any]:
  """The given clip, enlarged without blur, the answer and the target."""
  given, real = np.asarray(batch["given"]["video"]), batch["target"]
  scale = real.shape[2] // given.shape[2]
  given = given.repeat(scale, 2).repeat(scale, 3)
  return {"given": given, "fake": fake, "real": real}


def from_source(
  num: int, seed: int, source: Any, facts: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """`Task.ask` of tasks on footage: what the first clips of a source give.

  Which they are, and how they are degraded, is the source's.
  """
  del seed, facts
  examples = source.prepared(range(min(num, len(source))))
  return {
    name: np.stack([example["given"][name] for example in examples])
    for name in examples[0]["given"]
  }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Footage:
  """What real files need of a task that goes from clip to clip.

  Attributes:
    given: (video, times, mask, **options) -> `given` of real footage, NumPy,
      without a leading B. video: (T, h, w, 3) float32 in [-1, 1], whole frames,
      not tiles; mask: (T, h, w, 1) or None. It has (T - 1) * rate + 1 frames,
      at the times `output_times` says.
    scale: side of the target over side of the given video.
    rate: frames out for each step from frame to frame. Above 1 `given` takes
      it as an option as well.
    vector_dim: of given['vector']; 0: there is none.
    unmasked: what a user is told who gives no mask, '' if none is needed.
    measures: what evaluation measures beside what it measures of every task;
      names out of `ANSWERS` of evals/paired.py, or 'psnr_ahead'.
    hides: (height, width) -> (height, width) bool, what is hidden of a frame
      where a user gives no mask. What is hidden is shown as the first frame of
      the shot has it. None: nothing is hidden, nor shown.
    hears: `given` takes the option `sound`, rows of data/sound.py (T, n). A
      user names a file; without one it is the sound of the film.
  """

  given: Callable[..., dict[str, np.ndarray]]
  scale: int = 1
  rate: int = 1
  vector_dim: int = 0
  unmasked: str = ""
  measures: tuple[str, ...] = ()
  hides: Callable[[int, int], np.ndarray] | None = None
  hears: bool = False

  def output_times(self, times: np.ndarray) -> np.ndarray:
    """Times of the frames that come out for frames at `times`, see there."""
    return subdivide(times, self.rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """One job for a generator.

  Attributes:
    prepare: (example, seed) -> {'given': {...}, 'target', 'times', 'weight'?}
      of one clip. An example is {'video': (T, H, W, C) float32 in [-1, 1],
      'times': (T,) float32 seconds, 'label'?: int32 ()}. It runs in the graph
      of tf.data on tensors (seed: (2,) int64, for stateless random ops) and,
      unless `tf`, for data in memory under `jax.vmap` on jax arrays (seed: a
      typed key). `given` is all that the generator sees. Tasks from clip to
      clip put there
        'video': (T, H / scale, W / scale, C) in [-1, 1], as many frames as
          the target has; what is missing is zero;
        'mask': (T, h, w, 1), 1 where the clip is unknown;
        'map': (T, h, w, n), n numbers of each pixel, such as how noisy it is;
        'vector': (T, vector_dim), numbers of each frame;
      and 'weight' (T, H, W, 1) is 1 where the answer counts.
    ask: (num, seed, source, facts, **wishes) -> `given` of num clips, NumPy,
      with a leading B: for sampling what `prepare` is for training. source:
      clips with `prepared`, or None; facts: what is known of the data without
      them, `num_classes` and `class_names`; wishes: what a user may ask for.
    footage: what real files need of it; None: it goes from noise to clips. Who
      asks whether a task works on given clips looks here.
    baselines: name -> ((given, times) -> video), classical answers on NumPy
      batches, (B, T, H, W, C) float32, that evaluation measures beside the
      model. See baselines.py.
    preview: (batch, fake) -> name -> (B, T, H, W, C), the videos worth looking
      at side by side, in order, of a task on footage.
    palette: name -> colour (red, green, blue) of 0 to 255 of each class, where
      maps are given, as drawings in these colours.
    tf: `prepare` is TensorFlow code, so config.data.memory must be False.
    name: that of its file; `create` sets it.
  """

  prepare: Callable[[Mapping[str, Any], Any], dict[str, Any]]
  ask: Callable[..., dict[str, np.ndarray]] = from_source
  footage: Footage | None = None
  baselines: Mapping[str, Callable[..., Any]] = dataclasses.field(
    default_factory=dict
  )
  preview: Callable[[Mapping[str, Any], Any], dict[str, Any]] = preview
  palette: Mapping[str, tuple[int, int, int]] = dataclasses.field(
    default_factory=dict
  )
  tf: bool = False
  name: str = ""


def create(fields: Mapping[str, Any]) -> Task:
  """Builds the task that `config.task` describes: its name and options.

  Raises:
    UserError: there is no such task, it does not have an option, or the option
      is a wrong one.
  """
  rooms.check_entry("tasks", fields["name"], "config.task.name")
  module = importlib.import_module(f"vidgan_jax.tasks.{fields['name']}")
  options = dict(fields["options"])
  rooms.check_kwargs(module.make, options, "config.task.options")
  return dataclasses.replace(module.make(**options), name=fields["name"])


def check(option: str, value: Any, known: Any) -> None:
  """Raises `config.ConfigError` unless the option's value is a known one."""
  if value not in known:
    raise config.ConfigError(
      f"config.task.options.{option} is {value!r}; there are "
      f"{', '.join(map(repr, known))}."
    )


def weights(
  option: str, value: Mapping[str, float] | None, default: Mapping[str, float]
) -> dict[str, float]:
  """What an option mixes, and how often; only what has a weight above 0.

  Raises:
    config.ConfigError: an unknown name, a weight below 0, or nothing left.
  """
  value = dict(default if value is None else value)
  for name in value:
    check(option, name, default)
  if not value or min(value.values()) < 0 or not max(value.values()):
    raise config.ConfigError(
      f"config.task.options.{option} has the weights {value}; none may be "
      "below 0, and one must be above."
    )
  return {k: float(v) for k, v in value.items() if v}


def as_it_is(video: Any, times: Any, mask: Any = None) -> dict[str, Any]:
  """`Footage.given` of tasks that give the video and nothing else."""
  del times, mask
  return {"video": video}


def hide(video: Any, mask: Any) -> dict[str, Any]:
  """`given` of a clip that is unknown where the mask is 1."""
  return {"video": video * (1 - mask), "mask": mask}


def pair(example: Mapping[str, Any], given: Any, **more: Any) -> dict[str, Any]:
  """What `prepare` returns: what is given of a clip, and the clip itself."""
  clip = {"target": example["video"], "times": example["times"]}
  return {"given": given} | clip | more


def hidden(example: Mapping[str, Any], mask: Any) -> dict[str, Any]:
  """The same where the hidden part alone counts."""
  return pair(example, hide(example["video"], mask), weight=mask)


def gray(video: Any) -> Any:
  """The luma in all three channels, of an array of any library."""
  shares = np.float32(pixels.LUMA["bt709"])
  luma = sum(video[..., i : i + 1] * w for i, w in enumerate(shares))
  return luma + 0 * video


def statistics(video: Any, xp: Any = np) -> Any:
  """How bright and how coloured each frame is, where a tile cannot know.

  The frame is shrunk to 16 x 16 means; of each channel these are sorted and
  averaged in 16 groups: the histogram, as quantiles.

  Args:
    video: (T, H, W, 3).
    xp: its library, numpy or tensorflow.

  Returns:
    (T, STATISTICS) in the units of the video.
  """
  rows, columns = _cells(video.shape[1]), _cells(video.shape[2])
  # NumPy would sum over rows and columns at once, in h w terms a cell.
  cells = xp.einsum("ah,thwc,bw->tcab", rows, video, columns, optimize="greedy")
  cells = xp.sort(xp.reshape(cells, (-1, 3, 256)))
  groups = xp.reshape(cells, (-1, STATISTICS, 16))
  return xp.einsum("tgk,k->tg", groups, np.full(16, 1 / 16, np.float32))


def _cells(size: int, cells: int = 16) -> np.ndarray:
  """Means of `size` pixels in 16 equal cells: (16, size) of row sum 1."""
  edges = np.arange(cells + 1) * size / cells
  pixel = np.arange(size)
  inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(
    edges[:-1, None], pixel
  )
  return (np.maximum(inside, 0) * cells / size).astype(np.float32)
