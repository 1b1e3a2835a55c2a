"""Clips at two, three or four times their size.

given: video, the clip at H / scale, W / scale, 8 bits. target: the clip.
base: 'lanczos'.
"""

from collections.abc import Mapping
from typing import Any

from vidgan_jax import baselines as classical
from vidgan_jax import config
from vidgan_jax import rooms
from vidgan_jax import tasks


def make(
  scale: int = 2,
  degradation: str = "clean",
  damage: Mapping[str, float] | None = None,
) -> tasks.Task:
  """Builds the task.

  Args:
    scale: 2, 3 or 4; 1 with 'real' alone: restored at the same size.
    degradation: 'clean', shrunk by the antialiased bicubic filter and nothing
      else, or 'real', what footage goes through: blur, resizing, noise, JPEG,
      and once more, with H.264, see `degrade.real`.
    damage: options of `degrade.real`, shares of clips: how often blurs are
      round ('isotropic'), noise is shot noise ('poisson'), clips ring ('sinc')
      and go through H.264 ('h264'). For 'real' alone.

  Raises:
    config.ConfigError: another option.
  """
  tasks.check("degradation", degradation, ("clean", "real"))
  real, damage = degradation == "real", dict(damage or {})
  if damage and not real:
    raise config.ConfigError(
      "config.task.options.damage says how clips are spoilt, but degradation "
      f"is {degradation!r}: set it to 'real', or leave damage out."
    )
  tasks.check("scale", scale, (1, 2, 3, 4) if real else (2, 3, 4))

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    from vidgan_jax.tasks import degrade

    video = example["video"]
    h, w = video.shape[1:3]
    if h % scale or w % scale:
      raise config.ConfigError(
        f"Clips of {w} x {h} pixels cannot be shrunk {scale} times: crop them "
        f"to multiples of {scale} in config.data.ops."
      )
    size = h // scale, w // scale
    if real:
      own = ("video", "seed", "height", "width")
      where = "config.task.options.damage"
      rooms.check_kwargs(degrade.real, damage, where, own)
      low = degrade.real(video, seed, *size, **damage)
    else:
      low = degrade.eight_bit(degrade.resize(video, *size))
    return tasks.pair(example, {"video": low})

  baselines = {
    "bicubic": classical.bicubic(scale),
    "lanczos": classical.lanczos(scale),
    "unsharp": classical.unsharp(scale, tune=(0.15, 0.3, 0.5)),
    "back_projection": classical.back_projection(scale, tune=(2, 5, 10)),
  }
  if real:
    baselines = {
      "lanczos": classical.lanczos(scale),
      "nlmeans": classical.nlmeans(scale, tune=(2, 4, 7, 11)),
    }
  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(
      given=tasks.as_it_is, scale=scale, measures=("psnr_y",)
    ),
    baselines=classical.Available(baselines),
    tf=True,
  )
