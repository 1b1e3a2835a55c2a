"""THE loop: from a config to a trained run in its workdir."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import itertools
import os
import time
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import losses
from vidgan_jax import models
from vidgan_jax import tasks
from vidgan_jax.data import order
from vidgan_jax.data import pipeline
from vidgan_jax.devices import parallel
from vidgan_jax.devices import preemption
from vidgan_jax.devices import processes
from vidgan_jax.devices import sharding
from vidgan_jax.evals import files
from vidgan_jax.store import checkpoint
from vidgan_jax.store import provenance
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import compile as compile_lib
from vidgan_jax.train import method as method_lib
from vidgan_jax.train import observe
from vidgan_jax.train import optim
from vidgan_jax.train import state as state_lib
from vidgan_jax.train import step as step_lib
from vidgan_jax.train import writer as writer_lib


def train(
  config, workdir: str | os.PathLike, data_changed: bool = False
) -> bool:
  """Trains from the newest checkpoint of `workdir`, or from the start.

  Args:
    config: validated ConfigDict.
    workdir: folder of the run; made if missing.
    data_changed: go on although the data set is another one.

  Returns:
    True at the end of the run, False if a signal stopped it; its state is
    saved either way.

  Raises:
    UserError: what the config asks for cannot be, or the workdir is another
      run's.
  """
  if "://" in str(workdir):
    raise errors.UserError(
      f"--workdir {workdir} is an address, and a workdir is a folder: mount it "
      "(gcsfuse, NFS) and name the folder."
    )
  processes.initialize()
  with workdir_lib.claimed(
    workdir, config, lock=jax.process_index() == 0
  ) as workdir:
    # No process may write to the workdir before all have looked at it.
    multihost_utils.sync_global_devices("workdir")
    with (
      writer_lib.Writer(workdir) as writer,
      preemption.Signals() as stop,
      contextlib.ExitStack() as stack,
    ):
      try:
        with stop.at_once():
          run = _start(config, workdir, data_changed, writer, stop, stack)
      except preemption.Stopped:
        writer.log(f"Stopped by {stop.asked} before a step was made.")
        return False
      return _loop(run, config, workdir, writer, stop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
  """A run that is ready for its next step.

  Attributes:
    state: after `start` steps.
    batches: of the steps from there.
    start: steps done before.
    total: steps of the whole run.
    sums: of the writer, after `start` steps.
    due: steps done -> which variant of the step comes.
    steps: variant -> (state, batch) -> (state, metrics).
    count: a duration -> steps.
    observer: shows how the run goes.
    checkpoints: of the run.
    facts: what a checkpoint holds beside the state.
  """

  state: Any
  batches: Iterator[Any]
  start: int
  total: int
  sums: dict[str, Any]
  due: Callable[[int], Any]
  steps: dict[Any, Callable]
  count: Callable[[str], int]
  observer: observe.Observer
  checkpoints: checkpoint.Checkpoints
  facts: dict[str, Any]


def _start(config, workdir, data_changed, writer, stop, stack) -> _Run:
  """Data, method, state and compiled steps; `stack` closes what is open."""
  started, log = time.perf_counter(), writer.log
  processes.use_cache()
  mesh = sharding.make_mesh(config.mesh)
  cut = sharding.batch_sharding(mesh, config.batch_axes)
  task = tasks.create(config.task)
  source = pipeline.make_source(config.data, "train")
  data = pipeline.create(
    config.data,
    batch=config.batch * config.d_steps,
    seed=config.seed,
    prepare=task.prepare,
    sharding=cut,
    source=source,
    log=log,
  )
  observer = observe.Observer(config, workdir, writer, task, stop)
  _check(config, data, task)
  log(
    f"Data: {data.size} clips of {config.data.name}"
    + (f", {data.dropped} too short" if data.dropped else "")
  )
  record = _record(config, data, source, observer.real)
  steps_of = functools.partial(
    config_lib.steps, batch=config.batch, size=data.size
  )
  total = steps_of(config.total)
  method, step_fn, create = _build(config, data, total, steps_of)
  checkpoints = stack.enter_context(
    checkpoint.Checkpoints(
      workdir_lib.checkpoints(workdir),
      every=steps_of(config.cadence.save),
      keep=config.cadence.keep,
      log=log,
    )
  )
  state, places, start, batches, before = _begin(
    config, data, create, checkpoints, mesh, log
  )
  observer.begin(record, start, total, steps_of)
  steps = {}
  if start < total:  # Else it has ended, and what it saved last is whole.
    _check_clips(before, record, data_changed, log)
    _overview(state, mesh, config, log)
    run = parallel.compile_step(step_fn, config.parallel, mesh, places, cut)
    first = next(batches)
    steps = compile_lib.variants(
      run, state, first, method.variants(start), config, log
    )
    batches = itertools.chain([first], batches)
    # Processes finish compiling at different times. A program's first CPU
    # collective fails after half a minute; this one has run before.
    multihost_utils.sync_global_devices("compiled")
    if jax.process_index() == 0:
      workdir_lib.write_config(workdir, config)
    log(
      f"First step after {time.perf_counter() - started:.1f} s; "
      f"steps {start} to {total}."
    )
  return _Run(
    state=state,
    batches=batches,
    start=start,
    total=total,
    sums=before.get("sums", {}),
    due=method.due,
    steps=steps,
    count=steps_of,
    observer=observer,
    checkpoints=checkpoints,
    facts=record.to_json(),
  )


def _loop(run, config, workdir, writer, stop) -> bool:
  """Steps, lines, checkpoints and looks, until the end or a stop."""
  start, total = run.start, run.total
  state, checkpoints, observer = run.state, run.checkpoints, run.observer
  every = run.count(config.cadence.log)
  writer.start(start, total, config.batch, every, run.sums)
  guard = _Guard(config, workdir, writer.log)

  done, pending = start, None
  while True:
    due = checkpoints.due(done)
    stopped = bool(stop.asked) or checkpoints.preempted(done)
    last = stopped or done >= total
    if done > start and (due or last or observer.judges(done)):
      # The line comes before the checkpoint, and the checkpoint before what may
      # take long: whenever the run is killed, it has both or makes both anew.
      if pending is not None:
        guard.check(done, writer.step(done, pending))
        pending = None
      facts = run.facts | {"sums": writer.sums}
      checkpoints.save(done, state, facts, force=True)
    if stopped:
      break
    try:
      observer.look(done, state.ema)
    except preemption.Stopped:
      continue
    if last:
      break
    state, metrics = run.steps[run.due(done)](state, next(run.batches))
    # The metrics of the step before: the device goes on with this one.
    if pending is not None:
      guard.check(done, writer.step(done, pending))
    pending, done = metrics, done + 1

  checkpoints.wait()
  writer.log(
    f"Stopped by {stop.asked or 'preemption'} at step {done}: the same command "
    "goes on from there."
    if stopped
    else f"Finished already: {done} steps, in {workdir}."
    if done == start
    else f"Finished: {done} steps, {done * config.batch / 1e3:.1f} kimg, in "
    f"{workdir}."
  )
  if guard.diverged:
    writer.log(f"Warning: {guard.diverged}")
  return not stopped


def _build(config, data, total, steps_of) -> tuple:
  """The method; its step; a function of a batch that makes the first state."""
  generator, discriminator = models.create(
    config.model, jnp.dtype(config.precision)
  )
  method = method_lib.Method(
    generator=generator,
    discriminator=discriminator,
    seconds=data.seconds,
    total=total,
    **losses.create(config, total, steps_of),
  )
  optimizer = functools.partial(
    optim.make, total=total, batch=config.batch, size=data.size
  )
  g_tx = optimizer(config.optim.g)
  d_tx = optimizer(config.optim.d, updates=config.d_steps)
  halflife = config_lib.kimg(config.ema.halflife, config.batch, data.size)
  step_fn = step_lib.make_step(
    method,
    g_tx=g_tx,
    d_tx=d_tx,
    ema_halflife=1e3 * halflife,
    ema_rampup=config.ema.rampup,
    d_steps=config.d_steps,
    accumulate=config.accumulate,
    axis_name="batch" if config.parallel == "pmap" else None,
  )
  create = functools.partial(
    state_lib.create,
    seed=config.seed,
    generator=generator,
    discriminator=discriminator,
    g_tx=g_tx,
    d_tx=d_tx,
    seconds=data.seconds,
    augment_p=config.augment.p,
  )
  return method, step_fn, create


def _begin(config, data, create, checkpoints, mesh, log) -> tuple:
  """The state to start from, where its leaves live, its step, the batches.

  And what its checkpoint says of itself.
  """
  before = {}
  start = checkpoints.latest() or 0
  batches = data.batches(start)
  first = next(batches)
  batches = itertools.chain([first], batches)
  create = functools.partial(create, batch=jax.eval_shape(lambda: first))
  abstract = jax.eval_shape(create)
  places = sharding.shardings(abstract, mesh, config.sharding)
  if start:
    abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract,
      places,
    )
    restored = checkpoints.restore(abstract)
    state, before = restored.tree, restored.metadata
    if restored.step != start:
      # The newest one was damaged: the data go back with the weights.
      start = restored.step
      batches = data.batches(start)
    log(f"Resumed at step {start}.")
  else:
    # Born on the devices that keep it.
    state = jax.jit(create, out_shardings=places)()
    if config.init_from:
      state = checkpoint.init_from(state, config.init_from)
      log(f"Weights from {config.init_from}.")
  return state, places, start, batches, before


def _overview(state, mesh, config, log) -> None:
  log(writer_lib.overview(state.g, "generator"))
  log(writer_lib.overview(state.d, "discriminator"))
  log(sharding.describe(state, mesh, config.sharding))


def _record(config, data, source, real) -> provenance.Record:
  times = real.read([0])[0]["times"]
  return provenance.make(
    config,
    seconds=data.seconds,
    times=tuple(float(time) for time in times),
    class_names=tuple(data.class_names),
    text=data.text and dataclasses.asdict(data.text),
    data={
      "clips": data.size,
      "held_out": files.content(real),
      "fingerprint": order.fingerprint(source),
    },
  )


def _check_clips(before, record, data_changed, log) -> None:
  """Raises UserError if a run would go on with clips that it did not have."""
  known = before.get("data", {}).get("fingerprint")
  # Checkpoints of earlier versions do not say.
  changed = known and order.difference(known, record.data["fingerprint"])
  if changed and not data_changed:
    raise errors.UserError(
      f"The data set is not the one that this run has learned from: {changed}. "
      "Put that one back, name another --workdir, or go on with this one by "
      "--data-changed."
    )
  if changed:
    log(f"The data set is another one: {changed}.")


def _check(config, data, task) -> None:
  """Raises UserError for parts of the config that do not go together."""
  classes = config.model.num_classes
  if classes and data.num_classes != classes:
    raise errors.UserError(
      f"config.model.num_classes is {classes}, but {config.data.name} has "
      f"{data.num_classes} classes. Set config.model.num_classes="
      f"{data.num_classes} (0 is unconditional)."
    )
  if config.augment.policy and task.footage is not None:
    raise errors.UserError(
      f"config.augment.policy is {config.augment.policy!r}, but it would move "
      "the video and not what the task gives beside it: set it to ''."
    )
  if config.data.memory and task.tf:
    raise errors.UserError(
      f"config.data.memory is True, but the task {config.task.name!r} works in "
      "tf.data: set config.data.memory=False."
    )


class _Guard:
  """Watches the numbers of each step for a run that cannot be saved.

  Attributes:
    diverged: in words, since when the losses are beyond all bounds and how to
      go on; '' while they are not.
  """

  # Losses of runs that learn are of the order of 1 to 100; those of one that
  # has diverged are beyond this for good, and not in one step alone.
  BOUND, STEPS = 1e4, 5

  def __init__(self, config, workdir, log):
    self._config, self._workdir, self._log = config, workdir, log
    self._beyond = 0  # steps in a row
    self.diverged = ""

  def check(self, step: int, values: dict[str, float]) -> None:
    """Takes the numbers of the step that ended as number `step`."""
    config = self._config
    if values["skipped_in_a_row"] >= config.nan_limit:
      raise errors.UserError(
        f"{config.nan_limit} updates in a row had gradients that are not "
        "finite (config.nan_limit); the weights are those before them. Lower "
        "config.optim.*.lr, raise a penalty's weight, or set "
        f"config.precision='float32', in a new workdir{self._way(step)}."
      )
    losses = {k: values[k] for k in ("d/loss", "g/loss") if k in values}
    inside = all(abs(x) < self.BOUND for x in losses.values())  # NaN is not.
    self._beyond = 0 if inside else self._beyond + 1
    if self._beyond == self.STEPS and not self.diverged:
      first = step - self.STEPS + 1
      now = ", ".join(f"{name} {x:.3g}" for name, x in losses.items())
      self.diverged = (
        f"the run has diverged: from step {first} on its losses are beyond "
        f"{self.BOUND:g} ({now}), and it will hardly come back. Stop it, lower "
        "config.optim.*.lr or raise a penalty's weight, and begin in a new "
        f"workdir{self._way(first)}."
      )
      self._log(f"Warning: {self.diverged}")

  def _way(self, step: int) -> str:
    """How to keep what was learnt before a step."""
    folder = workdir_lib.checkpoints(self._workdir)
    steps = workdir_lib.steps_in(folder)
    before = [number for number in steps if 0 < number < step]
    if not before:
      return ""
    path = folder / str(before[-1])
    return f", from the weights of before: --config.init_from={path}"
