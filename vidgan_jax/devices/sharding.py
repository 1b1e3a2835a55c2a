"""Where arrays live: the mesh, and which leaf is cut along which axis.

A run has one mesh of devices with named axes (`config.mesh`) and an ordered
list of rules (`config.sharding`), pairs of a regular expression and a tactic.
The first expression found (`re.search`) in a leaf's '/'-joined path decides:

  replicate                             a full copy on every device
  fsdp                                  cut over the axis 'data'
  fsdp(axis='data', min_size=4096)      the same, said in full

`fsdp` cuts the largest dimension that the axis divides (the last of equal
ones). A leaf of fewer than `min_size` elements, or with no such dimension, is
replicated, and `describe` counts it. Averages and optimizer moments go where
their parameter goes: 'ema/X' and 'g_opt/.../X' are judged as 'g/X'.

The step is one function of the global batch. `compile_step` turns it into
`jit` over the mesh, where XLA splits it, or into `pmap`, where it splits
itself; both do the same update.
"""

import ast
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib.util
import os
import pathlib
import re
from typing import Any

from absl import logging
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from vidgan_jax import config as config_lib

P = jax.sharding.PartitionSpec

# What has the shape of what: the first part of a path -> that of its
# parameters.
_MIRRORS = {"ema": "g", "g_opt": "g", "d_opt": "d"}


# --------------------------------------------------------------- processes


def use_cache() -> None:
  """Keeps what XLA compiles on disk, for the next run of the same program."""
  cache = os.environ.get(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/vidgan_jax/xla")
  )
  jax.config.update("jax_compilation_cache_dir", cache)


def initialize(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  local_device_ids: Sequence[int] | None = None,
  environ: Mapping[str, str] = os.environ,
) -> bool:
  """Joins the other processes of this run, if there are any.

  Call it before anything touches a device. Without arguments it looks for a
  cluster in the environment and does nothing on a lone machine, where
  `jax.distributed.initialize()` would raise:

    JAX_COORDINATOR_ADDRESS   host:port, with JAX_NUM_PROCESSES and
                              JAX_PROCESS_ID; wins over all that follow
    SLURM_*                   a job step of more than one task (`srun`); JAX
                              gives each task one GPU unless
                              JAX_LOCAL_DEVICE_IDS ('0,1,2,3') says otherwise
    OMPI_COMM_WORLD_SIZE      more than one rank (`mpirun`)
    TPU_WORKER_HOSTNAMES      more than one worker, or a multislice run
    JOB_COMPLETION_INDEX      an indexed Kubernetes Job, with `jax[k8s]`
    a TPU virtual machine     asks the metadata server

  Args:
    coordinator_address: host:port of process 0.
    num_processes: how many there are.
    process_id: which one this is.
    local_device_ids: the devices of this process; None: JAX decides.
    environ: the environment variables.

  Returns:
    Whether `jax.distributed` was initialised by this call.
  """
  if jax.distributed.is_initialized():
    return False
  if coordinator_address is None and "JAX_COORDINATOR_ADDRESS" in environ:
    coordinator_address = environ["JAX_COORDINATOR_ADDRESS"]
    number = lambda name: int(environ[name]) if name in environ else None
    if num_processes is None:
      num_processes = number("JAX_NUM_PROCESSES")
    if process_id is None:
      process_id = number("JAX_PROCESS_ID")
  found = "arguments" if coordinator_address else _cluster(environ)
  if not found:
    return False
  try:
    jax.distributed.initialize(
      coordinator_address, num_processes, process_id, local_device_ids
    )
  except ValueError:
    # A TPU machine that stands alone, as in Colab: nobody to join.
    if found != "tpu-vm":
      raise
    return False
  logging.info(
    "Process %d of %d (found by %s), %d of %d devices.",
    jax.process_index(),
    jax.process_count(),
    found,
    jax.local_device_count(),
    jax.device_count(),
  )
  return True


def _cluster(environ: Mapping[str, str]) -> str:
  """Names the cluster that the variables tell of, '' for none."""
  slurm = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")
  if all(f"SLURM_{name}" in environ for name in slurm):
    # An interactive shell of a job of many tasks is a step of one.
    tasks = environ.get("SLURM_STEP_NUM_TASKS", environ["SLURM_NTASKS"])
    if int(tasks) > 1:
      return "slurm"
  if int(environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
    return "openmpi"
  if "MEGASCALE_COORDINATOR_ADDRESS" in environ:
    return "tpu-multislice"
  for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
    if "," in environ.get(name, ""):
      return "tpu-pod"
  if "JOB_COMPLETION_INDEX" in environ and importlib.util.find_spec(
    "kubernetes"
  ):
    return "kubernetes"
  if importlib.util.find_spec("libtpu") and (
    pathlib.Path("/dev/accel0").exists() or pathlib.Path("/dev/vfio/0").exists()
  ):
    return "tpu-vm"
  return ""


# --------------------------------------------------------------------- mesh


def make_mesh(
  axes: Iterable[tuple[str, int]] = (("data", -1),),
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """Builds the mesh over all devices of all processes.

  Args:
    axes: (name, number of devices) pairs; one number may be -1: the rest.
    devices: the devices to use; None: all there are.

  Raises:
    ConfigError: the numbers do not multiply to the number of devices.
  """
  axes = [(str(name), int(size)) for name, size in axes]
  count = jax.device_count() if devices is None else len(devices)
  names, sizes = [n for n, _ in axes], [s for _, s in axes]
  mend = "Use -1 for one axis to give it all devices that are left."
  if not axes or len(set(names)) != len(names):
    raise config_lib.ConfigError(
      f"config.mesh is {tuple(axes)}; it must name at least one axis, and each "
      "once, as (('data', -1),)."
    )
  if any(s < 1 and s != -1 for s in sizes) or sizes.count(-1) > 1:
    raise config_lib.ConfigError(
      f"config.mesh is {tuple(axes)}; sizes are at least 1, and at most one is "
      "-1 (all devices that are left)."
    )
  known = int(np.prod([s for s in sizes if s != -1]))
  if count % known or (-1 not in sizes and known != count):
    raise config_lib.ConfigError(
      f"config.mesh is {tuple(axes)}, which asks for "
      f"{'a multiple of ' if -1 in sizes else ''}{known} devices, but there "
      f"are {count} ({jax.local_device_count()} in each of "
      f"{jax.process_count()} processes). {mend}"
    )
  sizes = [count // known if s == -1 else s for s in sizes]
  # JAX's default, Explicit axes, makes convolutions over sharded kernels
  # raise: the compiler shall choose.
  auto = (jax.sharding.AxisType.Auto,) * len(names)
  return jax.make_mesh(
    tuple(sizes), tuple(names), axis_types=auto, devices=devices
  )


# -------------------------------------------------------------------- rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Leaf:
  """The decision on one leaf."""

  path: str
  spec: P
  wish: str  # name of the tactic
  bytes: int
  count: int


def shardings(tree: Any, mesh: jax.sharding.Mesh, rules: Any) -> Any:
  """Says of every leaf where it lives.

  Args:
    tree: arrays or ShapeDtypeStructs, such as `jax.eval_shape` returns.
    mesh: from `make_mesh`.
    rules: `config.sharding`, ((regex, tactic), ...).

  Returns:
    A tree like `tree` with a NamedSharding for each leaf.

  Raises:
    ConfigError: a leaf that no rule covers, or a tactic that does not exist.
  """
  plan = _plan(tree, mesh, rules)
  return jax.tree.unflatten(
    jax.tree.structure(tree),
    [jax.sharding.NamedSharding(mesh, leaf.spec) for leaf in plan],
  )


def describe(tree: Any, mesh: jax.sharding.Mesh, rules: Any) -> str:
  """Tells in a table what the rules do to a tree.

  A row for each top-level name; 'kept whole' counts the leaves that a rule
  meant to cut but that were too small or not divisible.
  """
  rows: dict[str, list[float]] = {}
  for leaf in _plan(tree, mesh, rules):
    parts = 1
    for entry in leaf.spec:
      for axis in (entry,) if isinstance(entry, str) else entry or ():
        parts *= mesh.shape[axis]
    values = (
      1,
      leaf.count,
      leaf.bytes,
      leaf.bytes / parts,
      parts > 1,
      parts == 1 and leaf.wish != "replicate",
    )
    for name in (leaf.path.split("/")[0], "total"):
      row = rows.setdefault(name, [0] * len(values))
      row[:] = [a + b for a, b in zip(row, values)]
  total = rows.pop("total", [0] * 6)
  lines = [
    "mesh "
    + " x ".join(f"{name}={size}" for name, size in mesh.shape.items())
    + f" ({mesh.devices.flat[0].device_kind})",
    f"{'part':<18}{'leaves':>7}{'elements':>13}{'MiB':>10}"
    f"{'MiB/device':>12}{'cut':>6}{'kept whole':>12}",
  ]
  for name, row in [*rows.items(), ("total", total)]:
    leaves, count, size, local, cut, whole = row
    lines.append(
      f"{name:<18}{leaves:>7}{count:>13,}{size / 2**20:>10.2f}"
      f"{local / 2**20:>12.2f}{int(cut):>6}{int(whole):>12}"
    )
  return "\n".join(lines)


def _plan(tree: Any, mesh: jax.sharding.Mesh, rules: Any) -> list[_Leaf]:
  """Decides on every leaf, in the order of `jax.tree.leaves`."""
  rules = [(re.compile(regex), *_tactic(text, mesh)) for regex, text in rules]
  leaves = [
    (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]
  shapes = {path: leaf.shape for path, leaf in leaves}
  plan = []
  for path, leaf in leaves:
    judged = _parameter(path, leaf.shape, shapes)
    found = [rule for rule in rules if rule[0].search(judged)]
    if not found:
      raise config_lib.ConfigError(
        f"config.sharding has no rule for {path!r}"
        + (f" (judged as {judged!r})" if judged != path else "")
        + "; its expressions are "
        + (", ".join(repr(r.pattern) for r, *_ in rules) or "none")
        + ". End the list with ('.*', 'replicate') to keep what is left whole."
      )
    _, name, options = found[0]
    spec = P() if name == "replicate" else _fsdp(leaf, mesh, **options)
    plan.append(
      _Leaf(
        path=path,
        spec=spec,
        wish=name,
        bytes=leaf.size * leaf.dtype.itemsize,
        count=leaf.size,
      )
    )
  return plan


def _parameter(path: str, shape: tuple, shapes: dict[str, tuple]) -> str:
  """Path of the parameter that a leaf mirrors, else the leaf's own."""
  head, *rest = path.split("/")
  if head in _MIRRORS:
    for i in range(len(rest)):
      candidate = "/".join([_MIRRORS[head], *rest[i:]])
      if shapes.get(candidate) == shape:
        return candidate
  return path


def _fsdp(
  leaf: Any,
  mesh: jax.sharding.Mesh,
  axis: str = "data",
  min_size: int = 4096,
) -> P:
  """Cuts the largest dimension that the axis divides."""
  dims = [
    (size, i)
    for i, size in enumerate(leaf.shape)
    if size and size % mesh.shape[axis] == 0
  ]
  if leaf.size < min_size or not dims or mesh.shape[axis] == 1:
    return P()
  _, best = max(dims)
  return P(*[None] * best, axis)


def _tactic(text: str, mesh: jax.sharding.Mesh) -> tuple[str, dict]:
  """Parses 'fsdp(axis="data")' to ('fsdp', {'axis': 'data'})."""
  example = "fsdp(axis='data', min_size=4096)"
  try:
    node = ast.parse(text.strip(), mode="eval").body
    call = node if isinstance(node, ast.Call) else None
    name = ast.unparse(call.func if call else node)
    options = {
      k.arg: ast.literal_eval(k.value) for k in (call.keywords if call else ())
    }
    if call and call.args:
      raise ValueError("arguments without a name")
  except (SyntaxError, ValueError) as e:
    raise config_lib.ConfigError(
      f"config.sharding: the tactic {text!r} cannot be read ({e}). Write "
      f"replicate, fsdp or {example}."
    ) from None
  known = {"replicate": {}, "fsdp": {"axis": str, "min_size": int}}
  if name not in known:
    raise config_lib.ConfigError(
      f"config.sharding: there is no tactic {name!r}. "
      + config_lib.nearest(name, known)
    )
  for key, value in options.items():
    if not isinstance(value, known[name].get(key, ())):
      raise config_lib.ConfigError(
        f"config.sharding: {key}={value!r} is no argument of {name}. "
        f"Write replicate, fsdp or {example}."
      )
  if name == "fsdp" and options.get("axis", "data") not in mesh.shape:
    raise config_lib.ConfigError(
      f"config.sharding: {text!r} cuts over the axis "
      f"{options.get('axis', 'data')!r}, which config.mesh does not have. "
      + config_lib.nearest(options.get("axis", "data"), mesh.shape)
    )
  return name, options


# -------------------------------------------------------------------- batch


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """A full copy on every device."""
  return jax.sharding.NamedSharding(mesh, P())


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The leading dimension of a batch is cut over all axes of the mesh."""
  return jax.sharding.NamedSharding(mesh, P(mesh.axis_names))


def put(batch: Any, mesh: jax.sharding.Mesh) -> Any:
  """Puts a batch on the mesh.

  Args:
    batch: tree of numpy arrays with leading dimension B / processes, the
      process's own contiguous part of the global batch.
    mesh: from `make_mesh`.

  Returns:
    The tree as global arrays with leading dimension B, see `batch_sharding`.

  Raises:
    ConfigError: the devices do not divide the batch.
  """
  sharding = batch_sharding(mesh)
  processes = jax.process_count()
  for leaf in jax.tree.leaves(batch):
    if (leaf.shape[0] * processes) % mesh.size:
      raise config_lib.ConfigError(
        f"config.batch is {leaf.shape[0] * processes}, which {mesh.size} "
        "devices cannot share evenly. Make it a multiple of the number of "
        "devices."
      )
  if processes == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), batch
  )


def fetch(tree: Any) -> Any:
  """Copies a tree from the mesh to this process's first device, whole.

  All processes must call it. The copy outlives the donation of the original.
  """
  device = jax.local_devices()[0]

  def whole(x):
    if not x.is_fully_replicated:
      if x.is_fully_addressable:
        return jax.device_put(np.asarray(x), device)
      x = multihost_utils.process_allgather(x, tiled=True)
      return jax.device_put(x, device)
    [local] = [s.data for s in x.addressable_shards if s.device == device] or [
      x.addressable_data(0)
    ]
    return jnp.copy(local)

  return jax.tree.map(whole, tree)


# --------------------------------------------------------------------- step


def compile_step(
  step: Callable,
  mode: str,
  mesh: jax.sharding.Mesh,
  state_shardings: Any,
) -> Callable:
  """Compiles the step, at its first call.

  Args:
    step: (state, batch, due) -> (state, metrics), `due` static; built with
      axis_name=None for 'jit' and axis_name='batch' for 'pmap', under which
      it must leave state and metrics equal on all devices.
    mode: 'jit' or 'pmap', `config.parallel`.
    mesh: from `make_mesh`.
    state_shardings: from `shardings`; all replicated for 'pmap'.

  Returns:
    run(state, batch, due) -> (state, metrics) on global arrays, batch as
    from `put`, metrics replicated. The state that is passed in is donated:
    its buffers are gone after the call. `run.lower(state, batch, due)`
    lowers without running, for the cost analysis.

  Raises:
    ConfigError: 'pmap' with a state that is not replicated.
  """
  if mode == "jit":
    return jax.jit(
      step,
      static_argnums=2,
      donate_argnums=0,
      in_shardings=(state_shardings, batch_sharding(mesh)),
      out_shardings=(state_shardings, replicated(mesh)),
    )
  if mode != "pmap":
    raise config_lib.ConfigError(
      f"config.parallel is {mode!r}. "
      + config_lib.nearest(mode, ("jit", "pmap"))
    )
  if not all(s.is_fully_replicated for s in jax.tree.leaves(state_shardings)):
    raise config_lib.ConfigError(
      "config.parallel is 'pmap', which keeps a copy of the state on every "
      "device, but config.sharding cuts some of it. Set config.parallel='jit' "
      "or config.sharding=(('.*', 'replicate'),)."
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
    out_shardings=batch_sharding(mesh),
  )
  cut, whole = P(mesh.axis_names), P()

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
