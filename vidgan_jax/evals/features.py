"""Features of many clips: a stream of them through a frozen network."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import functools
from typing import Any

import jax
import numpy as np

from vidgan_jax.devices import sharding


def stream(
  apply: Callable[[Any, jax.Array], jax.Array],
  params: Any,
  videos: Iterable[np.ndarray],
  batch: int = 32,
  mesh: jax.sharding.Mesh | None = None,
) -> Iterator[np.ndarray]:
  """Yields features (n, D) float32 of clips as they come.

  Args:
    apply: (params, (B, T, H, W, 3) uint8) -> (B, D); a clip's features must not
      depend on the others. It is jitted here, once for each function: give the
      same one again, not an equal one.
    params: of `apply`.
    videos: arrays of clips (N, T, H, W, 3) uint8, N as it comes.
    batch: clips for one call of `apply`; it does not change the result.
    mesh: cuts each batch over its devices, those of this process, which must
      divide it; None: one device.
  """
  params = jax.device_put(params, mesh and sharding.replicated(mesh))
  for video in videos:
    _check(video)
    for start in range(0, len(video), batch):
      part = video[start : start + batch]
      # The last part is filled up, so that `apply` compiles once.
      full = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
      if mesh is not None:
        full = jax.device_put(full, sharding.batch_sharding(mesh))
      yield np.asarray(_run(apply, params, full))[: len(part)]


@functools.partial(jax.jit, static_argnums=0)
def _run(apply, params, video):
  return apply(params, video)


def _check(video: np.ndarray) -> None:
  video = np.asarray(video)
  if video.ndim != 5 or video.shape[-1] != 3 or video.dtype != np.uint8:
    raise ValueError(
      f"Clips are (N, T, H, W, 3) uint8, not {video.shape} {video.dtype}: 0 is "
      "black, 255 white, red first."
    )
