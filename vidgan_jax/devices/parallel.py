"""One step on all devices: `jit` over the mesh, or `pmap`.

The step is one function of the global batch. Under `jit` XLA splits it over the
mesh; under `pmap` it splits itself, by its axis name. Both do the same update.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import multihost_utils

from vidgan_jax import config as config_lib
from vidgan_jax import rooms
from vidgan_jax.devices import sharding

P = jax.sharding.PartitionSpec


def compile_step(
  step: Callable,
  mode: str,
  mesh: jax.sharding.Mesh,
  state_shardings: Any,
  batch_sharding: jax.sharding.NamedSharding,
) -> Callable:
  """Compiles the step, at its first call.

  Args:
    step: (state, batch, due) -> (state, metrics), `due` static; built with
      axis_name=None for 'jit' and axis_name='batch' for 'pmap', under which
      it must leave state and metrics equal on all devices.
    mode: 'jit' or 'pmap', `config.parallel`.
    mesh: from `sharding.make_mesh`.
    state_shardings: from `sharding.shardings`; all replicated for 'pmap'.
    batch_sharding: from `sharding.batch_sharding`; over all axes for 'pmap'.

  Returns:
    run(state, batch, due) -> (state, metrics) on global arrays, metrics
    replicated. The state that is passed in is donated:
    its buffers are gone after the call. `run.lower(state, batch, due)`
    lowers without running, for the cost analysis.

  Raises:
    ConfigError: 'pmap' with a state that is not replicated, or with axes of
      the mesh that do not carry the batch.
  """
  if mode == "jit":
    return jax.jit(
      step,
      static_argnums=2,
      donate_argnums=0,
      in_shardings=(state_shardings, batch_sharding),
      out_shardings=(state_shardings, sharding.replicated(mesh)),
    )
  if mode != "pmap":
    raise config_lib.ConfigError(
      f"config.parallel is {mode!r}. " + rooms.nearest(mode, ("jit", "pmap"))
    )
  if not all(s.is_fully_replicated for s in jax.tree.leaves(state_shardings)):
    raise config_lib.ConfigError(
      "config.parallel is 'pmap', which keeps a copy of the state on every "
      "device, but config.sharding cuts some of it. Set config.parallel='jit' "
      "or config.sharding=(('.*', 'replicate'),)."
    )
  carry = batch_sharding.spec[0]
  if any(n > 1 and name not in carry for name, n in mesh.shape.items()):
    raise config_lib.ConfigError(
      "config.parallel is 'pmap', which cuts the batch over all devices, but "
      f"config.batch_axes leaves out some of config.mesh ({dict(mesh.shape)}). "
      "Set config.parallel='jit' or name them all."
    )
  mapped = jax.pmap(
    step,
    axis_name="batch",
    in_axes=(None, 0),
    out_axes=None,
    static_broadcasted_argnums=2,
    donate_argnums=0,
    devices=list(mesh.devices.flat),
  )
  # (B, ...) -> (devices, B / devices, ...): each device keeps what it has.
  split = jax.jit(
    lambda batch: jax.tree.map(
      lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch
    ),
    out_shardings=batch_sharding,
  )
  cut, whole = batch_sharding.spec, P()

  def local(state, batch):
    """What `pmap` wants: all arrays hold this process's part alone."""
    if jax.process_count() == 1:
      return state, split(batch)
    convert = multihost_utils.global_array_to_host_local_array
    return convert(state, mesh, whole), convert(split(batch), mesh, cut)

  def run(state, batch, due=("adversary",)):
    out = mapped(*local(state, batch), due)
    if jax.process_count() == 1:
      return out
    return multihost_utils.host_local_array_to_global_array(out, mesh, whole)

  run.lower = lambda state, batch, due=("adversary",): mapped.lower(
    *local(state, batch), due
  )
  return run
