"""Where arrays live: the mesh, and which leaf is cut along which axis.

A run has one mesh of devices with named axes (`config.mesh`), names of those
axes that carry the batch (`config.batch_axes`) and an ordered list of rules
(`config.sharding`), pairs of a regular expression and a tactic of
`devices/tactics.py`. The first expression found (`re.search`) in a leaf's
'/'-joined path decides:

  replicate                             a full copy on every device
  fsdp                                  the largest dimension over 'data'
  fsdp(axis='data', min_size=4096)      the same, said in full
  fsdp | split(dim=-1, axis='model')    one after the other

Averages and optimizer moments go where their parameter goes: 'ema/X' and
'g_opt/.../X' are judged as 'g/X'. `describe` counts the leaves that a tactic
was to cut and did not.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import inspect
import math
import re
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from vidgan_jax import calls
from vidgan_jax import config as config_lib
from vidgan_jax import rooms
from vidgan_jax.devices import tactics

P = jax.sharding.PartitionSpec

# Axes that carry the batch, outermost first, where a mesh has them.
BATCH_AXES = ("slice", "data", "fsdp")

# What has the shape of what: the first part of a path -> that of its
# parameters.
_MIRRORS = {"ema": "g", "g_opt": "g", "d_opt": "d"}


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
  remedy = "Use -1 for one axis to give it all devices that are left."
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
  known = math.prod(s for s in sizes if s != -1)
  if count % known or (-1 not in sizes and known != count):
    raise config_lib.ConfigError(
      f"config.mesh is {tuple(axes)}, which asks for "
      f"{'a multiple of ' if -1 in sizes else ''}{known} devices, but there "
      f"are {count} ({jax.local_device_count()} in each of "
      f"{jax.process_count()} processes). {remedy}"
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
  meant: bool  # to be cut, by its rule
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
      parts == 1 and leaf.meant,
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
  rules = [(re.compile(regex), _tactics(text, mesh)) for regex, text in rules]
  leaves = [
    (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]
  shapes = {path: leaf.shape for path, leaf in leaves}
  plan = []
  for path, leaf in leaves:
    judged = _parameter(path, leaf.shape, shapes)
    matching = [steps for regex, steps in rules if regex.search(judged)]
    if not matching:
      raise config_lib.ConfigError(
        f"config.sharding has no rule for {path!r}"
        + (f" (judged as {judged!r})" if judged != path else "")
        + "; its expressions are "
        + (", ".join(repr(r.pattern) for r, *_ in rules) or "none")
        + ". End the list with ('.*', 'replicate') to keep what is left whole."
      )
    cut = (None,) * len(leaf.shape)
    for tactic in matching[0]:
      cut = tactic(cut, leaf.shape, mesh)
    plan.append(
      _Leaf(
        path=path,
        # P(None, 'data'), not P(None, 'data', None): equal, but not `==`.
        spec=P(*cut[: max((i + 1 for i, a in enumerate(cut) if a), default=0)]),
        meant=any(t.func is not tactics.replicate for t in matching[0]),
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


def _tactics(text: str, mesh: jax.sharding.Mesh) -> list[functools.partial]:
  """Parses "fsdp | split(dim=0)" to functions of (cut, shape, mesh)."""
  what = "config.sharding: the tactic"
  steps = calls.parse(text, what, "fsdp(axis='data') | split(dim=-1)")
  if not steps or any(args for _, args, _ in steps):
    raise config_lib.ConfigError(
      f"{what} {text!r} cannot be read: write replicate, fsdp or "
      "fsdp(axis='data', min_size=4096), each argument with its name."
    )
  return [_tactic(name, options, mesh) for name, _, options in steps]


def _tactic(
  name: str, options: dict[str, Any], mesh: jax.sharding.Mesh
) -> functools.partial:
  """The tactic of this name with its options, checked."""
  where = "config.sharding"
  known = [n for n, f in vars(tactics).items() if inspect.isfunction(f)]
  if name not in known:
    raise config_lib.ConfigError(
      f"{where}: there is no tactic {name!r}. " + rooms.nearest(name, known)
    )
  tactic = getattr(tactics, name)
  defaults = tactic.__kwdefaults__ or {}
  for key, value in options.items():
    if type(value) is not type(defaults.get(key)):
      raise config_lib.ConfigError(
        f"{where}: {key}={value!r} is not an argument of {name}. It takes "
        + (", ".join(f"{k}={v!r}" for k, v in defaults.items()) or "none")
        + "."
      )
  axis = (defaults | options).get("axis")
  if axis is not None and axis not in mesh.shape:
    raise config_lib.ConfigError(
      f"{where}: {name!r} cuts over the axis {axis!r}, which config.mesh does "
      "not have. " + rooms.nearest(axis, mesh.shape)
    )
  return functools.partial(tactic, **options)


# -------------------------------------------------------------------- batch


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """A full copy on every device."""
  return jax.sharding.NamedSharding(mesh, P())


def batch_sharding(
  mesh: jax.sharding.Mesh, axes: Sequence[str] = BATCH_AXES
) -> jax.sharding.NamedSharding:
  """The leading dimension of a batch is cut over the axes that carry it.

  Args:
    mesh: from `make_mesh`.
    axes: `config.batch_axes`; those of the default may be missing in the mesh.
      Over the other axes of the mesh the batch is replicated.

  Raises:
    ConfigError: the mesh has none of the axes, or lacks one that is not of the
      default.
  """
  present = tuple(name for name in axes if name in mesh.shape)
  unknown = [n for n in axes if n not in mesh.shape and n not in BATCH_AXES]
  if unknown or not present:
    raise config_lib.ConfigError(
      f"config.batch_axes is {tuple(axes)}, but config.mesh has the axes "
      f"{', '.join(mesh.shape)}: name those that carry the batch."
    )
  return jax.sharding.NamedSharding(mesh, P(present))


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
