"""How different a clip looks from its target: LPIPS, and tLP over time.

With weights that a user has put there (`weights.py`): lpips_alex or lpips_vgg.
One clip at a time, (T, H, W, 3), RGB, uint8 or in [-1, 1]; nothing is resized
or cropped.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels
from vidgan_jax.measures import fidelity
from vidgan_jax.measures import intervals
from vidgan_jax.nets import lpips as net
from vidgan_jax.nets import store as weights_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distances:
  """LPIPS between frames; NaN where nothing counts.

  Attributes:
    between: (T,), from each frame of the clip to the target's.
    steps: (T - 1,), from each frame of the clip to its next.
    target_steps: (T - 1,), the same of the target.
  """

  between: np.ndarray
  steps: np.ndarray
  target_steps: np.ndarray

  @property
  def lpips(self) -> float:
    """Mean over the frames (Zhang et al. 2018, eq. 1)."""
    return intervals.mean(self.between)

  @property
  def tlp(self) -> float:
    """Change that is not the target's (Chu et al. 2020, section 5).

      mean_t | LPIPS(x_t, x_t+1) - LPIPS(G_t, G_t+1) |

    Papers print it times 100. NaN for one frame.
    """
    return intervals.mean(abs(self.target_steps - self.steps))


def lpips(
  video: np.ndarray,
  target: np.ndarray,
  weight: np.ndarray | None = None,
  trunk: str = "alex",
) -> float:
  """LPIPS of a clip, the mean over its frames; see `compare`."""
  return compare(video, target, weight, trunk).lpips


def tlp(
  video: np.ndarray,
  target: np.ndarray,
  weight: np.ndarray | None = None,
  trunk: str = "alex",
) -> float:
  """The tLP of a clip; see `compare`."""
  return compare(video, target, weight, trunk).tlp


def compare(
  video: np.ndarray,
  target: np.ndarray,
  weight: np.ndarray | None = None,
  trunk: str = "alex",
  batch: int = 8,
) -> Distances:
  """LPIPS from frame to frame, for `lpips` and `tlp` at one cost.

  Args:
    video: (T, H, W, 3) uint8, or float in [-1, 1].
    target: the same.
    weight: (T, H, W, 1) in [0, 1] or None. The network cannot leave out a
      pixel: where it does not count the target is set into the clip, and the
      mean is still over whole frames. A frame in which nothing counts has no
      value, nor has a step between two of them.
    trunk: 'alex', which papers report, or 'vgg'.
    batch: frames at a time; does not change the result.

  Raises:
    weights.Missing: the weights are not there.
    ValueError: bad clips.
  """
  video, target = np.asarray(video), np.asarray(target)
  fidelity.check(video, target)
  frames = len(video)
  counts = np.ones(frames, bool)
  if weight is not None:
    weight = np.asarray(weight, np.float32)
    if weight.shape != (*video.shape[:3], 1) or not _within(weight, 0, 1):
      raise ValueError(
        f"The weight for LPIPS must be {(*video.shape[:3], 1)}, in [0, 1]; it "
        f"is {weight.shape}: give one number a pixel and frame."
      )
    counts = weight.any((1, 2, 3))
  params, _ = load(trunk)
  batch = max(min(batch, frames - 1), 1)
  parts = []
  # Each part holds the first frame of the next, for the step between them.
  for start in range(0, max(frames - 1, 1), batch):
    index = np.minimum(np.arange(start, start + batch + 1), frames - 1)
    x, y = _floats(video[index]), _floats(target[index])
    if weight is not None:
      x = y + weight[index] * (x - y)
    part = _distances(trunk, params, x, y)
    parts.append([np.asarray(x, np.float64) for x in part])
  between = [part[0][:-1] for part in parts] + [parts[-1][0][-1:]]
  steps, target_steps = (
    np.concatenate([part[i] for part in parts])[: frames - 1] for i in (1, 2)
  )
  either = counts[1:] | counts[:-1]
  return Distances(
    between=np.where(counts, np.concatenate(between)[:frames], np.nan),
    steps=np.where(either, steps, np.nan),
    target_steps=np.where(either, target_steps, np.nan),
  )


def load(trunk: str) -> tuple[dict, str]:
  """Parameters of `nets.lpips.Network`, and the sha256 of their file.

  Raises:
    weights.Missing: the weights are not there.
    ValueError: no such trunk, or a file that is not what its name says.
  """
  if trunk not in net.TRUNKS:
    raise errors.UserError(
      f"There is no LPIPS over {trunk!r}: choose one of {sorted(net.TRUNKS)}."
    )
  return _load(f"lpips_{trunk}", weights_lib.folder())


def measurable(frame: tuple[int, int], trunk: str = "alex") -> bool:
  """Whether the weights are there, and (H, W) is large enough for them."""
  try:
    load(trunk)
  except weights_lib.Missing:
    return False
  return min(frame) >= net.TRUNKS[trunk].smallest


@functools.cache
def _load(name: str, folder: pathlib.Path) -> tuple[dict, str]:
  del folder  # Another folder, other weights.
  params, sha256 = weights_lib.load(name)
  return jax.device_put(params), sha256


@functools.partial(jax.jit, static_argnums=0)
def _distances(trunk, params, video, target):
  """(n,) between two clips of n frames, (n - 1,) within each."""
  both = net.preprocess(jnp.concatenate([video, target]))
  both = net.Network(trunk).apply({"params": params}, both)
  part = lambda low, high: {name: tap[low:high] for name, tap in both.items()}
  n = len(video)
  return (
    net.distance(part(0, n), part(n, None)),
    net.distance(part(0, n - 1), part(1, n)),
    net.distance(part(n, -1), part(n + 1, None)),
  )


def _floats(frames: np.ndarray) -> np.ndarray:
  """In [-1, 1], float32; few frames at a time, a clip may be long."""
  if frames.dtype == np.uint8:
    return pixels.to_floats(frames)
  return np.float32(frames)


def _within(x: np.ndarray, low: float, high: float) -> bool:
  """Nothing outside, but for rounding, and no NaN."""
  return bool(x.min() >= low - 1e-3 and x.max() <= high + 1e-3)
