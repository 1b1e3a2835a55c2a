"""One blind model for footage of unknown damage, at the size it has.

given: video, damaged in one of several ways. target: the clip. base: 'copy'.
"""

from collections.abc import Mapping
from typing import Any

from vidgan_jax import baselines as classical
from vidgan_jax import tasks
from vidgan_jax.tasks import deblock
from vidgan_jax.tasks import denoise
from vidgan_jax.tasks import super_resolve

# Kind of damage -> the task that knows it.
PARTS = {
  "noise": lambda: denoise.make(sigma=(3, 35), poisson=0.3, blind=True),
  "jpeg": lambda: deblock.make("jpeg", (15, 80)),
  "h264": lambda: deblock.make("h264", (22, 40)),
  "real": lambda: super_resolve.make(1, "real"),
}
MIXTURE = {"noise": 1.0, "jpeg": 1.0, "h264": 1.0, "real": 1.0}


def make(mixture: Mapping[str, float] | None = None) -> tasks.Task:
  """Builds the task.

  Args:
    mixture: kind of damage -> how often: 'noise', 'jpeg', 'h264' and 'real'
      (blur, resizing, noise and compression, twice). Default: `MIXTURE`.

  Raises:
    config.ConfigError: an unknown kind.
  """
  weights = tasks.weights("mixture", mixture, MIXTURE)
  parts = [PARTS[kind]() for kind in weights]

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    from vidgan_jax.tasks import degrade

    a, b = degrade.split(seed, 2)
    video = example["video"]
    damaged = degrade.one_of(
      a,
      [*weights.values()],
      [lambda p=p: p.prepare(example, b)["given"]["video"] for p in parts],
      video.shape,
    )
    return tasks.pair(example, {"video": damaged})

  baselines = {
    "copy": classical.copy(),
    "nlmeans": classical.nlmeans(tune=(4, 7, 11, 15)),
    "spp": classical.spp(tune=(10, 16, 22, 28)),
    "hqdn3d": classical.hqdn3d(tune=(4, 10, 20)),
  }
  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(given=tasks.as_it_is),
    baselines=classical.Available(baselines),
    tf=True,
  )
