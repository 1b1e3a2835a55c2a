"""Holes filled: objects, scratches, burnt-in text, lost frames.

given: video, zero in the holes; mask, 1 there. target: the whole clip; weight:
the mask. base: 'fill'; set config.model.generator.compose.
"""

from collections.abc import Mapping
from typing import Any

from vidgan_jax import baselines as classical
from vidgan_jax import config
from vidgan_jax import tasks

# Kind of hole -> how often; of the frame they cover 2 to 20 % (lost frames: of
# the clip 5 to 50 %).
HOLES = {"strokes": 4, "boxes": 2, "scratches": 1, "text": 1, "frames": 1}


def make(holes: Mapping[str, float] | None = None) -> tasks.Task:
  """Builds the task.

  Args:
    holes: kind -> how often; each clip has one of 'strokes', 'boxes',
      'scratches', 'text' and 'frames', see data/degrade.py. Default: `HOLES`.

  Raises:
    config.ConfigError: an unknown kind.
  """
  weights = tasks.weights("holes", holes, HOLES)

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    from vidgan_jax.tasks import degrade

    shape = tuple(example["video"].shape[:3])
    a, b = degrade.split(seed, 2)
    kinds = [
      lambda kind=kind: getattr(degrade, kind)(b, shape) for kind in weights
    ]
    mask = degrade.one_of(a, [*weights.values()], kinds, [*shape, 1])
    return tasks.hidden(example, mask)

  baselines = {
    "telea": classical.telea(tune=(1, 2, 3)),
    "navier_stokes": classical.navier_stokes(tune=(1, 2, 3)),
    "temporal_mean": classical.temporal_mean(),
    "average": classical.average(),
  }
  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(given=given),
    baselines=classical.Available(baselines),
    tf=True,
  )


def given(video: Any, times: Any, mask: Any = None) -> dict[str, Any]:
  """What the model sees; without a mask there is nothing to fill."""
  del times
  if mask is None:
    raise config.ConfigError(
      "It fills what a mask hides: give one, as --mask hide.png."
    )
  return tasks.hide(video, mask)
