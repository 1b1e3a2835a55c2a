"""From a config to a run that is ready for its next step."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import functools
import itertools
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
from vidgan_jax.devices import processes
from vidgan_jax.devices import sharding
from vidgan_jax.evals import files
from vidgan_jax.store import checkpoint
from vidgan_jax.store import digest
from vidgan_jax.store import provenance
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import compile as compile_lib
from vidgan_jax.train import method as method_lib
from vidgan_jax.train import observe
from vidgan_jax.train import optim
from vidgan_jax.train import state as state_lib
from vidgan_jax.train import step as step_lib
from vidgan_jax.train import writer as writer_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
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


def start(config, workdir, data_changed, writer, stop, stack) -> Run:
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
  observer = observe.Observer(config, workdir, writer, task, stop, data.text)
  _check(config, data, task)
  log(
    f"Data: {data.size} clips of {config.data.name}"
    + (f", {data.dropped} too short" if data.dropped else "")
  )
  steps_of = functools.partial(
    config_lib.steps, batch=config.batch, size=data.size
  )
  total = steps_of(config.total)
  method, step_fn, create = _build(config, data, total, steps_of)
  record = _record(config, data, source, observer.real, method)
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
    now = method.due(start)
    dues = sorted(method.variants(start), key=lambda due: (due != now, due))
    steps = compile_lib.variants(run, state, first, dues, config, log, stack)
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
  return Run(
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
    **losses.create(config, total, steps_of, data.text),
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
  shapes = jax.eval_shape(lambda: first)
  create = jax.jit(functools.partial(create, batch=shapes))  # Traced once.
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


def _record(config, data, source, real, method) -> provenance.Record:
  times = real.read([0])[0]["times"]
  fingerprint = order.fingerprint(source)
  if data.text and data.text.digests:
    # The last digits of a network's vectors are the machine's; its files count.
    fingerprint[data.text.signal] = digest.of(data.text.digests)[:16]
  return provenance.make(
    config,
    seconds=data.seconds,
    times=tuple(float(time) for time in times),
    class_names=tuple(data.class_names),
    text=data.text and dataclasses.asdict(data.text),
    data={
      "clips": data.size,
      "held_out": files.content(real),
      "fingerprint": fingerprint,
    },
    experts={
      name: part.expert.digest
      for name, part in method.reconstruction.items()
      if part.expert is not None
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
