"""Checkpoints: Orbax behind one door.

A run's `checkpoints/STEP/` holds two items: `state`, written by Orbax from the
devices that hold it, and `meta`, a JSON file with a digest of every leaf and
what `save` was given (in a run, its `provenance.Record`).

Orbax alone would read a flipped byte as a weight, cast another dtype without a
word, and stop at a damaged step instead of going to the one before. So every
array that is read is compared with its digest; a step that does not verify is
reported, and the next older one is taken.

Writing is asynchronous: `save` returns when the state has left the devices.
An error of the writing thread, such as a full disk, is raised by the next
call. Orbax writes to a temporary folder and renames it, so that a step exists
as a whole or not at all.

Digests are computed on the devices, do not depend on the sharding, and detect
any single flipped bit and any swap of two elements.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import errno
import inspect
import itertools
import json
import logging as std_logging
import os
import re
import shutil
import sys
from typing import Any
import zlib

from absl import logging
from etils import epath
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vidgan_jax import rooms
from vidgan_jax.store import files
from vidgan_jax.store import workdir

_TEMPORARY = ".orbax-checkpoint-tmp"
# Parts of the state: the name -> what earlier versions called it.
_RENAMED = {"score_means": "lecam"}


class CheckpointError(workdir.WorkdirError):
  """A checkpoint that cannot be written or used."""


class _Damaged(Exception):
  """A step whose content is not what was saved."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored:
  """What is read of a checkpoint.

  Attributes:
    step: the step that was saved.
    tree: the state, placed as asked; or the parameters of one of its networks,
      a nested dict of arrays.
    metadata: what `save` was given.
  """

  step: int
  tree: Any
  metadata: dict[str, Any]


class Checkpoints:
  """The checkpoints of one run. Every process makes one and calls alike.

  Use it as a context manager or call `close`. Until then Orbax's own reports
  of its errors are dropped: they are raised as well.
  """

  def __init__(
    self,
    directory: Any,
    *,
    every: int,
    keep: int = 2,
    log: Callable[[str], None] = logging.warning,
  ):
    """Opens the folder and clears what a killed run left half-written.

    Args:
      directory: `WORKDIR/checkpoints`; made if it is missing.
      every: save each multiple of this but step 0; 0: only when forced or
        preempted.
      keep: so many stay; the oldest goes when a newer one is complete.
      log: gets a line about each damaged step.

    Raises:
      CheckpointError: the folder cannot be made or written.
    """
    policies = [checkpoint_managers.PreemptionCheckpointingPolicy()]
    if every:
      policies.append(checkpoint_managers.FixedIntervalPolicy(every))
    self._log = log
    self._directory = epath.Path(directory).resolve()
    self._pending: int | None = None  # the step that is being written
    self._bytes = 0
    self._failed = False
    self._quiet = _quiet()
    try:
      self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
          save_decision_policy=checkpoint_managers.AnySavePolicy(policies),
          preservation_policy=checkpoint_managers.LatestN(keep),
          cleanup_tmp_directories=True,
        ),
      )
    except OSError as e:
      self._quiet.close()
      raise CheckpointError(
        f"The folder {self._directory} for checkpoints cannot be used: "
        f"{e.strerror or e}. Choose another --workdir or change its rights."
      ) from e

  def due(self, step: int) -> bool:
    """Whether this step is to be saved; raises as `check`.

    Call it in every step: that is how Orbax and all processes agree on the step
    to save when the machine announces that it is about to be preempted.
    """
    self.check()
    return self._manager.should_save(step) and step > 0

  def save(
    self,
    step: int,
    state: Any,
    metadata: dict[str, Any] | None = None,
    *,
    force: bool = False,
  ) -> bool:
    """Saves if this step is due.

    Args:
      step: steps done, as `state.step` says.
      state: tree of arrays; may be donated as soon as this returns.
      metadata: JSON values to keep beside the state.
      force: save in any case, unless this step is there already.

    Returns:
      Whether a save was started.

    Raises:
      CheckpointError: this save or the one before could not be written.
    """
    if not self.due(step):
      if not force or step in self._manager.all_steps():
        return False
    self.wait()
    leaves = _leaves(state)
    digests = _digests([leaf for _, leaf in leaves])
    self._bytes = sum(leaf.nbytes for _, leaf in leaves)
    meta = {
      "metadata": metadata or {},
      "leaves": {
        path: [str(leaf.dtype), list(leaf.shape), digest]
        for (path, leaf), digest in zip(leaves, digests)
      },
    }
    self._pending = step
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          meta=ocp.args.JsonSave(meta | {"crc": _crc(meta)}),
        ),
        force=True,
      )
    except Exception as e:
      raise self._failure(e) from e
    return True

  def check(self) -> None:
    """Raises the error of a save that has failed since the last call.

    Raises:
      CheckpointError: says which step is lost, why, and which one is safe.
    """
    if self._pending is None or self._manager.is_saving_in_progress():
      return
    self.wait()

  def wait(self) -> None:
    """Returns when nothing is being written any more; raises as `check`."""
    if self._pending is None or self._failed:
      return
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except Exception as e:
      raise self._failure(e) from e
    self._pending = None

  def preempted(self, step: int) -> bool:
    """Whether the machine has announced that it is about to be preempted.

    All processes get the same answer in the same step, and `save` saves that
    step. It needs `jax.distributed`; a lone process gets a plain SIGTERM.
    """
    return self._manager.reached_preemption(step)

  def latest(self) -> int | None:
    """The newest step, complete or being written; None if there is none."""
    return self._manager.latest_step()

  def restore(self, abstract: Any, step: int | None = None) -> Restored:
    """Reads the newest step that verifies.

    Damaged steps that were passed over are renamed to STEP.damaged, so that
    the run can save these steps again.

    Args:
      abstract: the state's ShapeDtypeStructs with shardings; the mesh may be
        another one than that which saved.
      step: this step and no other.

    Raises:
      CheckpointError: there is none, none is intact, or they are of another
        config.
    """
    self.wait()
    steps = sorted(self._manager.all_steps(), reverse=True)
    if step is not None:
      if step not in steps:
        raise CheckpointError(
          f"{self._directory} has no checkpoint of step {step}; there is "
          + (", ".join(map(str, reversed(steps))) or "none")
          + "."
        )
      steps = [step]
    newest, tree, meta, damaged = _newest(
      self._directory, steps, lambda path: _load(path, abstract), self._log
    )
    for bad in damaged:
      self._quarantine(bad)
    if damaged:
      self._manager.reload()
    return Restored(step=newest, tree=tree, metadata=meta["metadata"])

  def close(self) -> None:
    """Waits for the last save, clears up, and ends Orbax's threads."""
    try:
      self.wait()
    finally:
      try:
        self._manager.close()
      except Exception as e:
        if not self._failed:  # Else it has been raised before.
          raise self._failure(e) from e
      # After a failure other arrays may still be on their way, and fail too.
      if not self._failed:
        self._quiet.close()
      self._clear()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind, error, trace) -> None:
    """Closes; an error of the block says more than an error of closing."""
    with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
      self.close()

  def _clear(self) -> None:
    """Removes what is half-written."""
    if jax.process_index() == 0:
      for path in self._directory.glob(f"*{_TEMPORARY}*"):
        # Late writes of a save that failed may still add files to it: what is
        # left is removed when these checkpoints are closed.
        shutil.rmtree(path, ignore_errors=True)

  def _quarantine(self, step: int) -> None:
    source = self._directory / str(step)
    if jax.process_index() == 0:
      names = (f"{step}.damaged" + f".{n}" * (n > 0) for n in itertools.count())
      paths = (self._directory / name for name in names)
      files.move(source, next(p for p in paths if not p.exists()))
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"quarantine {step}")

  def _failure(self, error: Exception) -> CheckpointError:
    """Makes the error to raise; removes what is half-written."""
    step, self._pending, self._failed = self._pending, None, True
    self._clear()
    safe = sorted(
      int(p.name) for p in self._directory.iterdir() if p.name.isdigit()
    )
    safe = [s for s in safe if s != step]
    why = _brief(error)
    remedy = "Mend that"
    if _is_full(error):
      why = "the disk is full"
      free = shutil.disk_usage(self._directory).free
      why += (
        f" ({free / 2**20:.0f} MiB are free, the state takes up to "
        f"{self._bytes / 2**20:.0f})"
      )
      remedy = "Make room, or lower config.cadence.keep,"
    return CheckpointError(
      f"The checkpoint of step {step} could not be written to "
      f"{self._directory}: {why}. "
      + (
        f"The checkpoint of step {safe[-1]} is intact. {remedy} and start the "
        "same command again: it goes on from there."
        if safe
        else f"There is no older one. {remedy} and start the run again."
      )
    )


def _quiet() -> contextlib.ExitStack:
  """Drops reports of errors that are raised as well, until it is closed.

  Orbax logs them with hundreds of lines of traceback. And where an array ends
  after another one has failed, TensorStore finds that Orbax has closed its
  event loop, and Python reports that; whether there is such an array is chance.
  """

  def passes(record: std_logging.LogRecord) -> bool:
    if record.levelno < std_logging.ERROR:
      return True
    text = (record.pathname + record.getMessage()).lower()
    return "orbax" not in text and "tensorstore" not in text

  def report(unraisable: Any) -> None:
    source, closed = unraisable.object, "Event loop is closed"
    if inspect.iscoroutine(source):
      dropped = "orbax" in source.cr_code.co_filename
    else:
      dropped = source is None and str(unraisable.exc_value) == closed
    if not dropped:
      hook(unraisable)

  loggers = logging.get_absl_logger(), std_logging.getLogger("asyncio")
  hook, sys.unraisablehook = sys.unraisablehook, report
  undo = contextlib.ExitStack()
  undo.callback(setattr, sys, "unraisablehook", hook)
  for logger in loggers:
    logger.addFilter(passes)
    undo.callback(logger.removeFilter, passes)
  return undo


# ------------------------------------------------------- without the rest


def restore_params(
  path: Any,
  which: str = "ema",
  sharding: jax.sharding.Sharding | None = None,
) -> Restored:
  """Reads one network of a run without building the rest.

  Only that network is read and verified; nothing on the disk is changed.

  Args:
    path: a workdir, its `checkpoints` folder, or one `checkpoints/STEP`. Of
      several steps the newest that verifies is taken.
    which: the part of the state: 'ema', 'g' or 'd'.
    sharding: where all of it goes; None: this process's first device.

  Raises:
    WorkdirError: there is no checkpoint.
    CheckpointError: there is no such part in it, or all are damaged.
  """
  folder, steps = workdir.saved(path)
  directory = epath.Path(folder)
  sharding = sharding or jax.sharding.SingleDeviceSharding(
    jax.local_devices()[0]
  )

  def load(path):
    meta = _read_meta(path)
    tree: dict[str, Any] = {}
    for name, (dtype, shape, _) in meta["leaves"].items():
      *parents, leaf = name.split("/")
      if parents[:1] == [which]:
        node = tree
        for parent in parents:
          node = node.setdefault(parent, {})
        node[leaf] = jax.ShapeDtypeStruct(
          shape, jnp.dtype(dtype), sharding=sharding
        )
    if not tree:
      parts = {name.split("/")[0] for name in meta["leaves"]}
      raise CheckpointError(
        f"The checkpoint {path} has no part {which!r}. "
        + rooms.nearest(which, sorted(parts))
      )
    return _load(path, tree, partial=True)

  quiet = _quiet()
  step, tree, meta, damaged = _newest(directory, steps, load, logging.warning)
  # After a damaged one other arrays may still be on their way, and fail too.
  if not damaged:
    quiet.close()
  return Restored(step=step, tree=tree[which], metadata=meta["metadata"])


def init_from(state: Any, path: Any) -> Any:
  """Starts a new run with the networks of another (`config.init_from`).

  Of 'g', 'd' and 'ema' those parameters are taken that have the same path
  and shape there and here; what differs (another number of classes, another
  resolution) keeps its first value and is listed in the log. Step, optimizers
  and the rest stay those of a new run.

  Args:
    state: the new run's `State`.
    path: workdir or checkpoint to start from, as in `restore_params`.

  Raises:
    CheckpointError: as `restore_params`, or nothing fits.
  """
  new = {}
  for which in ("g", "d", "ema"):
    old = dict(_leaves(restore_params(path, which).tree))
    leaves = _leaves(getattr(state, which))
    fits = {n for n, x in leaves if n in old and old[n].shape == x.shape}
    left = [n for n, _ in leaves if n not in fits]
    if not fits:
      raise CheckpointError(
        f"config.init_from is {str(path)!r}, but no parameter of its {which!r} "
        "has the path and the shape of one of this run. Is the model another "
        "one (config.model)?"
      )
    if left:
      logging.warning(
        "config.init_from: %d of the %d parameters of %r are not in %s, or of "
        "another shape, and start fresh: %s.",
        len(left),
        len(leaves),
        which,
        path,
        _some(left, 20),
      )
    new[which] = jax.tree.unflatten(
      jax.tree.structure(getattr(state, which)),
      [
        # Over the host: the two may live on different meshes.
        jax.device_put(np.asarray(old[n]).astype(x.dtype), x.sharding)
        if n in fits
        else x
        for n, x in leaves
      ],
    )
  return state.replace(**new)


# ------------------------------------------------------------------ reading


def _newest(
  directory: epath.Path,
  steps: list[int],
  load: Callable[[epath.Path], tuple],
  log: Callable[[str], None],
) -> tuple:
  """Loads the first of `steps` that verifies.

  Returns:
    (step, tree, meta, the damaged steps that were passed over).
  """
  damaged: dict[int, str] = {}
  for step in steps:
    problem = ""
    try:
      tree, meta = load(directory / str(step))
    except _Damaged as e:
      problem = str(e)
    # All processes must take the same step.
    if jax.process_count() > 1:
      fine = multihost_utils.process_allgather(np.asarray(not problem))
      if not fine.all() and not problem:
        problem = "another process cannot read it"
    if not problem:
      return step, tree, meta, list(damaged)
    damaged[step] = problem
    if step != steps[-1]:
      log(
        f"The checkpoint of step {step} in {directory} is damaged: {problem}. "
        "Going to the one before."
      )
  if not steps:
    raise CheckpointError(f"There is no checkpoint in {directory}.")
  raise CheckpointError(
    f"No checkpoint in {directory} can be used: "
    + "; ".join(f"step {s}: {p}" for s, p in damaged.items())
    + ". Restore the folder from a copy, or start in another --workdir."
  )


def _load(path: epath.Path, abstract: Any, partial: bool = False) -> tuple:
  """Reads, compares and verifies one step.

  Returns:
    (tree, meta).

  Raises:
    _Damaged: it is not what was saved.
    CheckpointError: it is intact, but not what `abstract` describes.
  """
  meta = _read_meta(path)
  saved = meta["leaves"]
  parts = _parts(abstract)
  called = {name: _called(name, saved) for name in parts}
  wanted = {called[name]: part for name, part in parts.items()}
  _compare(path, saved, _leaves(wanted), partial)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  target = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=x.sharding or device
    ),
    wanted,
  )
  args = ocp.args.PyTreeRestore(
    item=target,
    restore_args=ocp.checkpoint_utils.construct_restore_args(target),
    partial_restore=partial,
  )
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      tree = reader.restore(path / "state", args=args)
  except Exception as e:
    # Orbax and TensorStore raise errors of many kinds at damaged bytes.
    raise _Damaged(f"it cannot be read ({_brief(e, 200)})") from e
  leaves = _leaves(tree)
  bad = [
    name
    for (name, _), digest in zip(leaves, _digests([x for _, x in leaves]))
    if digest != saved[name][2]
  ]
  if bad:
    raise _Damaged(
      f"{len(bad)} of {len(leaves)} arrays are not what was saved "
      f"({_some(bad)})"
    )
  if not isinstance(abstract, dict):
    tree = abstract.replace(**{name: tree[called[name]] for name in parts})
  return tree, meta


def _parts(state: Any) -> dict[str, Any]:
  """The fields of a state, or the entries of a dict."""
  if isinstance(state, dict):
    return state
  return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}


def _called(name: str, saved: dict[str, Any]) -> str:
  """What a checkpoint calls a part of the state."""
  known = {leaf.split("/")[0] for leaf in saved}
  old = _RENAMED.get(name)
  return old if old in known and name not in known else name


def _read_meta(path: epath.Path) -> dict[str, Any]:
  try:
    meta = json.loads((path / "meta" / "metadata").read_bytes())
    crc = meta.pop("crc")
    for dtype, shape, _ in meta["leaves"].values():
      if not isinstance(dtype, str) or min(shape, default=0) < 0:
        raise ValueError
    dict(meta["metadata"])
  except FileNotFoundError as e:
    raise _Damaged("meta/metadata is missing") from e
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
    raise _Damaged("meta/metadata is not JSON of ours") from e
  if crc != _crc(meta):
    raise _Damaged("meta/metadata is not what was saved")
  return meta


def _compare(path: Any, saved: dict, wanted: list, partial: bool) -> None:
  """Raises CheckpointError if the saved tree differs from the wanted one."""
  here = {name: [str(x.dtype), list(x.shape)] for name, x in wanted}
  missing = [n for n in here if n not in saved]
  extra = [] if partial else [n for n in saved if n not in here]
  shapes = [n for n in here if n in saved and here[n][1] != saved[n][1]]
  dtypes = [n for n in here if n in saved and here[n][0] != saved[n][0]]
  problems = []
  if missing:
    problems.append(f"it lacks {_some(missing)}")
  if extra:
    problems.append(f"it has {_some(extra)}, which this run has not")
  for names, i, word in ((shapes, 1, "shape"), (dtypes, 0, "dtype")):
    if names:
      problems.append(
        f"the {word} differs in "
        + _some(
          [f"{n} ({saved[n][i]} there, {here[n][i]} here)" for n in names]
        )
      )
  if problems:
    raise CheckpointError(
      f"The checkpoint {path} is of another config: {'; '.join(problems)}. "
      "Start with the config of that run (its workdir's config.json), or in "
      "a new --workdir; config.init_from takes over what fits."
    )


def _some(names: list[str], most: int = 4) -> str:
  rest = len(names) - most
  return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


# ------------------------------------------------------------------ details


def _leaves(tree: Any) -> list[tuple[str, Any]]:
  """('/'-joined path, leaf) of every leaf."""
  return [
    (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _digests(leaves: list[jax.Array]) -> list[int]:
  """Digests of arrays; blocks until they are computed."""
  return np.asarray(_digest_all(leaves)).tolist() if leaves else []


@jax.jit
def _digest_all(leaves: list[jax.Array]) -> jax.Array:
  return jnp.stack([_digest(leaf) for leaf in leaves])


@jax.jit
def _digest(x: jax.Array) -> jax.Array:
  """uint32 digest of an array's bits and of their places.

  The sum modulo 2^32 of a hash of each element, so it does not depend on how
  the array is cut. The hash is a murmur finaliser of the bits x and the index
  i, h = mix((x ^ i*a) * b) with odd a and b: at each index a bijection of the
  bits, so one changed element changes the sum.
  """
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    x = jnp.stack([x.real, x.imag], -1)
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  # The bits of each element as one unsigned word; of 8-byte types two words
  # in a new last dimension.
  size = min(x.dtype.itemsize, 4)
  word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[size]
  bits = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
  # i = sum_d place_d * stride_d, the row-major index, on every sharding.
  index, stride = jnp.zeros(bits.shape, jnp.uint32), 1
  for d in reversed(range(bits.ndim)):
    place = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, d)
    index += place * jnp.uint32(stride % 2**32)
    stride *= bits.shape[d]
  h = (bits ^ (index * jnp.uint32(0x9E3779B1))) * jnp.uint32(0x85EBCA6B)
  h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
  return jnp.sum(h ^ (h >> 16), dtype=jnp.uint32)


def _crc(meta: dict[str, Any]) -> int:
  return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _brief(error: BaseException, most: int = 400) -> str:
  """The first line of an error; of the system's errors only their name."""
  text = str(error).strip().split("\n")[0]
  code = re.search(r"os_error_code='(\d+)'", str(error))
  if code:
    return os.strerror(int(code[1]))
  # TensorStore appends its whole configuration.
  text = text.split(" [tensorstore_spec")[0].split(" [os_error")[0]
  return (text.rstrip(".") or type(error).__name__)[:most]


def _is_full(error: BaseException | None) -> bool:
  """Whether an error, or what caused it, is that the disk is full."""
  seen = set()
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in full:
      return True
    if re.search(r"No space left|RESOURCE_EXHAUSTED|quota", str(error), re.I):
      return True
    error = error.__cause__ or error.__context__
  return False
