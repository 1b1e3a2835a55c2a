"""THE loop: from a config to a trained run in its workdir."""

import dataclasses
import functools
import itertools
import os
import time

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
    with writer_lib.Writer(workdir) as writer, preemption.Signals() as stop:
      return _train(config, workdir, data_changed, writer, stop)


def _train(config, workdir, data_changed, writer, stop) -> bool:
  """Data, method, state and compiled steps; then the loop."""
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
  observer = observe.Observer(config, workdir, writer, task)
  _check(config, data, task)
  log(
    f"Data: {data.size} clips of {config.data.name}"
    + (f", {data.dropped} too short" if data.dropped else "")
  )
  record = _record(config, data, source, observer.real)
  steps_of = functools.partial(
    config_lib.steps, batch=config.batch, size=data.size
  )
  total, every = steps_of(config.total), steps_of(config.cadence.log)
  method, step_fn, create = _build(config, data, total, steps_of)
  with checkpoint.Checkpoints(
    workdir_lib.checkpoints(workdir),
    every=steps_of(config.cadence.save),
    keep=config.cadence.keep,
  ) as checkpoints:
    if (checkpoints.latest() or 0) >= total:
      log(f"Finished already: {checkpoints.latest()} steps, in {workdir}.")
      return True
    state, places, start, batches, before = _begin(
      config, data, create, checkpoints, mesh, log
    )
    _check_clips(before, record, data_changed, log)
    run = parallel.compile_step(step_fn, config.parallel, mesh, places, cut)
    first = next(batches)
    steps = compile_lib.variants(
      run, state, first, method.variants(start), config, log
    )
    # Processes finish compiling at different times. A program's first CPU
    # collective fails after half a minute; this one has run before.
    multihost_utils.sync_global_devices("compiled")
    observer.begin(record, start, total, steps_of)
    if jax.process_index() == 0:
      workdir_lib.write_config(workdir, config)
    log(
      f"First step after {time.perf_counter() - started:.1f} s; "
      f"steps {start} to {total}."
    )
    writer.start(start, total, config.batch)
    guard = _Guard(config, workdir, log)

    facts, pending = record.to_json(), None
    for step, batch in enumerate(itertools.chain([first], batches), start):
      observer.look(step, state.ema)
      checkpoints.save(step, state, facts)
      state, metrics = steps[method.due(step)](state, batch)
      # The metrics of the step before: the device goes on with this one.
      if pending is not None:
        write = observe.due(step, every, total)
        guard.check(step, writer.step(step, pending, write=write))
      pending, done = metrics, step + 1
      if done == total or stop.asked or checkpoints.preempted(step):
        break

    guard.check(done, writer.step(done, pending, write=True))
    if done == total:
      observer.look(total, state.ema)
    checkpoints.save(done, state, facts, force=True)
  log(
    f"Finished: {done} steps, {done * config.batch / 1e3:.1f} kimg, in "
    f"{workdir}."
    if done == total
    else f"Stopped by {stop.asked or 'preemption'} at step {done}, which is "
    "saved: the same command goes on from there."
  )
  if guard.diverged:
    log(f"Warning: {guard.diverged}")
  return done == total


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
  log(writer_lib.overview(abstract.g, "generator"))
  log(writer_lib.overview(abstract.d, "discriminator"))
  log(sharding.describe(abstract, mesh, config.sharding))
  return state, places, start, batches, before


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
