"""How a leaf is cut: one function a tactic, found by its name.

A tactic takes the cut so far, one entry a dimension (the name of an axis of the
mesh, or None for a whole dimension), and returns it with its own. Tactics
compose: 'fsdp | split(dim=-1, axis="model")' does one after the other.
"""

import math

import jax

Cut = tuple[str | None, ...]


def replicate(cut: Cut, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> Cut:
  """Cuts nothing more: a full copy on every device."""
  del shape, mesh  # whatever they are
  return cut


def fsdp(
  cut: Cut,
  shape: tuple[int, ...],
  mesh: jax.sharding.Mesh,
  *,
  axis: str = "data",
  min_size: int = 4096,
) -> Cut:
  """Cuts the largest whole dimension that the axis divides.

  Of equal ones the last. A leaf of fewer than `min_size` elements stays as it
  is: to gather it costs more than it saves (Rajbhandari et al. 2020, ZeRO).
  """
  fits = [
    (n, i)
    for i, n in enumerate(shape)
    if n and cut[i] is None and n % mesh.shape[axis] == 0
  ]
  if math.prod(shape) < min_size or not fits or mesh.shape[axis] == 1:
    return cut
  _, dim = max(fits)
  return (*cut[:dim], axis, *cut[dim + 1 :])


def split(
  cut: Cut,
  shape: tuple[int, ...],
  mesh: jax.sharding.Mesh,
  *,
  axis: str = "data",
  dim: int = -1,
) -> Cut:
  """Cuts one dimension, where there is such a one that the axis divides.

  The channels of a kernel, say, over an axis of their own (Shoeybi et al. 2019,
  Megatron-LM).
  """
  if not -len(shape) <= dim < len(shape):
    return cut
  dim %= len(shape)
  if cut[dim] is not None or shape[dim] % mesh.shape[axis]:
    return cut
  return (*cut[:dim], axis, *cut[dim + 1 :])
