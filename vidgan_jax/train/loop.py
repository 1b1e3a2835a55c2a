"""THE loop: from a config to a trained run in its workdir."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import shutil
import signal
import time

import numpy as np

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.store import workdir as workdir_lib


def train(config, workdir: str | os.PathLike) -> bool:
  """Trains from the newest checkpoint of `workdir`, or from the start.

  Args:
    config: validated ConfigDict.
    workdir: folder of the run; made if missing.

  Returns:
    True at the end of the run, False if a signal stopped it; its state is
    saved either way.
  """
  import jax
  from jax.experimental import multihost_utils

  from vidgan_jax.devices import processes
  from vidgan_jax.train import writer as metrics_lib

  if "://" in str(workdir):
    raise config_lib.ConfigError(
      f"--workdir {workdir} is an address, and a workdir is a folder: mount it "
      "(gcsfuse, NFS) and name the folder."
    )
  processes.initialize()
  workdir = pathlib.Path(workdir)
  new = workdir_lib.claim(workdir, config)
  # No process may write to the workdir before all have looked at it.
  multihost_utils.sync_global_devices("workdir")
  try:
    with (
      metrics_lib.Writer(workdir) as writer,
      _Signals() as stop,
      contextlib.ExitStack() as stack,
    ):
      return _train(config, workdir, writer, stop, stack)
  finally:
    # A run that never began leaves nothing behind.
    begun = workdir_lib.config_file(workdir).exists()
    if new and not begun and jax.process_index() == 0:
      shutil.rmtree(workdir, ignore_errors=True)


def _train(config, workdir: pathlib.Path, writer, stop, stack) -> bool:
  """The method, top to bottom."""
  import jax
  from jax.experimental import multihost_utils
  import jax.numpy as jnp

  from vidgan_jax import losses
  from vidgan_jax import models
  from vidgan_jax import sampler
  from vidgan_jax import tasks
  from vidgan_jax.data import pipeline
  from vidgan_jax.devices import parallel
  from vidgan_jax.devices import processes
  from vidgan_jax.devices import sharding
  from vidgan_jax.evals import files
  from vidgan_jax.evals import harness
  from vidgan_jax.store import checkpoint
  from vidgan_jax.store import provenance
  from vidgan_jax.train import method as method_lib
  from vidgan_jax.train import optim
  from vidgan_jax.train import state as state_lib
  from vidgan_jax.train import step as step_lib
  from vidgan_jax.train import writer as metrics_lib

  # ---------------------------------------------------------------- devices
  started = time.perf_counter()
  log = writer.log
  processes.use_cache()
  mesh = sharding.make_mesh(config.mesh)
  batch_sharding = sharding.batch_sharding(mesh, config.batch_axes)

  # ------------------------------------------------------------------- data
  task = tasks.create(config.task)
  data = pipeline.create(
    config.data,
    batch=config.batch * config.d_steps,
    seed=config.seed,
    prepare=task.prepare,
    sharding=batch_sharding,
    log=log,
  )
  evaluators = harness.make_evaluators(config.evals)
  reference = harness.reference(config, workdir, evaluators)
  real = reference.clips
  _check_labels(config, data)
  _check_task(config, task)
  clip = real.read([0])[0]
  record = provenance.make(
    config,
    seconds=data.seconds,
    times=tuple(float(time) for time in clip["times"]),
    class_names=tuple(data.class_names),
    data={"clips": data.size, "held_out": files.content(real)},
  )
  facts = record.to_json()
  log(
    f"Data: {data.size} clips of {config.data.name}"
    + (f", {data.dropped} too short" if data.dropped else "")
  )
  count = functools.partial(
    config_lib.steps, batch=config.batch, size=data.size
  )
  total = count(config.total)
  every = {
    name: count(config.cadence[name]) for name in ("log", "sample", "save")
  }
  paces = {
    name: count(config.evals[name].get("cadence", config.cadence.eval))
    for name in evaluators
  }

  # ------------------------------------------------ models, optimizers, step
  dtype = jnp.dtype(config.precision)
  generator, discriminator = models.create(config.model, dtype)
  g_tx = optim.make(config.optim.g, total, config.batch, data.size)
  d_tx = optim.make(
    config.optim.d, total, config.batch, data.size, config.d_steps
  )
  method = method_lib.Method(
    generator=generator,
    discriminator=discriminator,
    seconds=data.seconds,
    total=total,
    **losses.create(config, total, count),
  )
  penalties, adversary = (
    method.penalties | method.regularisers,
    method.adversary,
  )
  step_fn = step_lib.make_step(
    method,
    g_tx=g_tx,
    d_tx=d_tx,
    ema_halflife=1e3
    * config_lib.kimg(config.ema.halflife, config.batch, data.size),
    ema_rampup=config.ema.rampup,
    d_steps=config.d_steps,
    accumulate=config.accumulate,
    axis_name="batch" if config.parallel == "pmap" else None,
  )

  # ------------------------------------------------------------------ state
  checkpoints = stack.enter_context(
    checkpoint.Checkpoints(
      workdir_lib.checkpoints(workdir),
      every=every["save"],
      keep=config.cadence.keep,
    )
  )
  start = checkpoints.latest() or 0
  if start >= total:
    log(f"Finished already: {start} steps, in {workdir}.")
    return True
  batches = data.batches(start)
  first = next(batches)
  batches = itertools.chain([first], batches)
  create = functools.partial(
    state_lib.create,
    seed=config.seed,
    generator=generator,
    discriminator=discriminator,
    g_tx=g_tx,
    d_tx=d_tx,
    batch=jax.eval_shape(lambda: first),
    seconds=data.seconds,
    augment_p=config.augment.p,
  )
  abstract = jax.eval_shape(create)
  state_shardings = sharding.shardings(abstract, mesh, config.sharding)
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    state_shardings,
  )
  if checkpoints.latest() is not None:
    restored = checkpoints.restore(abstract)
    state = restored.state
    if restored.step != start:
      # The newest one was damaged: the data go back with the weights.
      start = restored.step
      batches = data.batches(start)
    log(f"Resumed at step {start}.")
  else:
    # Born on the devices that keep it.
    state = jax.jit(create, out_shardings=state_shardings)()
    if config.init_from:
      state = checkpoint.init_from(state, config.init_from)
      log(f"Weights from {config.init_from}.")

  # ----------------------------------------------------------------- report
  log(metrics_lib.overview(abstract.g, "generator"))
  log(metrics_lib.overview(abstract.d, "discriminator"))
  log(sharding.describe(abstract, mesh, config.sharding))
  run = parallel.compile_step(
    step_fn, config.parallel, mesh, state_shardings, batch_sharding
  )
  due = functools.partial(step_lib.due, penalties, adversary.start)
  period = math.lcm(*(p.interval for p in penalties.values()))
  ahead = range(start, min(total, max(start, adversary.start) + period))
  steps = _compile(
    run, state, first, {due(i) for i in ahead}, config.parallel, log
  )
  done_before = _looked(workdir, start) if start else frozenset()
  # The first collective of a program waits half a minute for the others on a
  # CPU, and then fails; this one, which has run before, waits for ever.
  multihost_utils.sync_global_devices("compiled")

  # ------------------------------------------------------------------- loop
  model = sampler.build(None, dataclasses.replace(record, step=start))
  fps = 1 / np.median(np.diff(record.times)) if len(record.times) > 1 else 1
  if start == 0:
    clips = metrics_lib.stack(real.read(range(min(16, len(real)))))
    writer.videos(0, {"real": clips}, fps)
  if jax.process_index() == 0:
    workdir_lib.write_config(workdir, config)
  pending = None  # Metrics of the step before; the device is still at work.
  log(
    f"First step after {time.perf_counter() - started:.1f} s; "
    f"steps {start} to {total}."
  )
  writer.start(start, total, config.batch)

  def look(step):
    """Samples and evaluations that are due before step `step`."""
    there = done_before if step == start else ()
    sample = _due(step, every["sample"], total) and "samples" not in there
    judge = {
      name: evaluator
      for name, evaluator in evaluators.items()
      if _due(step, paces[name], total) and f"evals/{name}" not in there
    }
    if sample or judge:
      now = model.with_params(sharding.fetch(state.ema), step)
      main = jax.process_index() == 0
      if sample and main:
        writer.videos(step, _samples(now, task, real), fps)
      if judge:  # By all processes: they share the clips.
        # What fails is recorded as not computed: training is worth more.
        failed = {}
        values = harness.run(judge, now, reference, log, failed)
        writer.scalars(step, harness.numbers(values))
        if main:
          options = config.evals.to_dict()
          ran = {k: options[k] for k in judge if k not in failed}
          harness.write(workdir, step, values, ran)
      multihost_utils.sync_global_devices("looked")
      writer.pause_ended()

  for step in range(start, total):
    look(step)
    checkpoints.save(step, state, facts)
    batch = next(batches)
    state, metrics = steps[due(step)](state, batch)
    if pending is not None:
      values = writer.step(step, pending, write=_due(step, every["log"], total))
      _check_guard(values, config)
    pending = metrics
    if stop.asked or checkpoints.preempted(step):
      break

  # -------------------------------------------------------------------- end
  done = step + 1
  writer.step(done, pending, write=True)
  if done == total:
    look(total)
  checkpoints.save(done, state, facts, force=True)
  checkpoints.wait()
  log(
    f"Finished: {done} steps, {done * config.batch / 1e3:.1f} kimg, in "
    f"{workdir}."
    if done == total
    else f"Stopped by {stop.asked or 'preemption'} at step {done}, which is "
    "saved: the same command goes on from there."
  )
  return done == total


def _due(step: int, every: int, total: int) -> bool:
  """True each `every` steps and at the end; never for 0."""
  return every > 0 and (step % every == 0 or step == total)


def _looked(workdir: pathlib.Path, step: int) -> frozenset[str]:
  """What was made of a step before the stop: 'samples' and 'evals/NAME'.

  A run that is asked to stop does so before it looks at its last step.
  """
  from jax.experimental import multihost_utils

  from vidgan_jax.evals import harness

  row = harness.read(workdir_lib.evaluation(workdir, step))
  # One that failed has a record of its own name, and is not tried again.
  ran = row.get("evaluators", {}).keys() | row.get("records", {}).keys()
  names = ["samples", *(f"evals/{name}" for name in rooms.names("evals"))]
  there = [
    any(workdir_lib.sample(workdir, step).parent.glob(f"*{step:07d}.png")),
    *(name in ran for name in rooms.names("evals")),
  ]
  # Process 0 wrote them, on a disk that the others may not see.
  there = multihost_utils.broadcast_one_to_all(np.asarray(there))
  return frozenset(n for n, made in zip(names, there) if made)


def _check_labels(config, data) -> None:
  classes = config.model.num_classes
  if classes and data.num_classes != classes:
    raise config_lib.ConfigError(
      f"config.model.num_classes is {classes}, but {config.data.name} has "
      f"{data.num_classes} classes. Set config.model.num_classes="
      f"{data.num_classes} (0 is unconditional)."
    )


def _check_task(config, task) -> None:
  if config.augment.policy and task.preview is not None:
    raise config_lib.ConfigError(
      f"config.augment.policy is {config.augment.policy!r}, but it would move "
      "the video and not what the task gives beside it: set it to ''."
    )
  if config.data.memory and task.tf:
    raise config_lib.ConfigError(
      f"config.data.memory is True, but the task {config.task.name!r} works in "
      "tf.data: set config.data.memory=False."
    )


def _samples(model, task, real):
  """What to look at: clips of fixed noise, or what is made of fixed clips."""
  import jax

  if task.preview is None:
    return {"samples": model.clips(0, 16)[0]}
  pairs = real.prepared(range(min(8, len(real))))
  batch = jax.tree.map(lambda *x: np.stack(x), *pairs)
  fake = model.apply(batch["given"], batch["times"])
  return {
    name: np.round((np.clip(video, -1, 1) + 1) * 127.5).astype(np.uint8)
    for name, video in task.preview(batch, fake).items()
  }


def _compile(run, state, batch, dues, parallel, log):
  """Compiles each variant of the step once, before the loop, and tells."""

  def compile_one(lowered):
    began = time.perf_counter()
    return lowered.compile(), time.perf_counter() - began

  dues = sorted(dues)
  # Lowered one after the other: where two threads open one global array at
  # once, jaxlib may hand out its parts twice.
  lowered = [run.lower(state, batch, due) for due in dues]
  with concurrent.futures.ThreadPoolExecutor(len(dues)) as pool:
    results = list(pool.map(compile_one, lowered))
  steps = {}
  for due, (compiled, seconds) in zip(dues, results):
    memory = compiled.memory_analysis()
    flops = (compiled.cost_analysis() or {}).get("flops", float("nan"))
    sizes = (
      f", {memory.argument_size_in_bytes / 2**20:.0f} MiB of arguments and "
      f"{memory.temp_size_in_bytes / 2**20:.0f} MiB of temporaries a device"
      if memory
      else ""
    )
    log(
      f"Step with {'+'.join(due) or 'no adversary'}: compiled in {seconds:.1f} "
      f"s, {flops / 1e9:.2f} GFLOP{sizes}"
    )
    # pmap's own executable cannot be called with global arrays.
    steps[due] = (
      compiled
      if parallel == "jit"
      else functools.partial(lambda s, b, d: run(s, b, d), d=due)
    )
  return steps


def _check_guard(values, config) -> None:
  if values["skipped_in_a_row"] >= config.nan_limit:
    raise errors.UserError(
      f"{config.nan_limit} updates in a row had gradients that are not finite "
      "(config.nan_limit); the weights are those before them, and the last "
      "checkpoint is good. Lower config.optim.*.lr, raise a penalty's weight, "
      "or set config.precision='float32', in a new workdir."
    )


class _Signals:
  """Turns the first Ctrl-C or SIGTERM into a wish; the second one kills.

  Of several processes all must stop at the same step, whichever of them got
  the signal. JAX sees to that when SIGTERM is left to it (see
  `Checkpoints.preempted`), so Ctrl-C is made into one.
  """

  def __init__(self):
    self.asked = ""
    self._old = {}
    self._pressed = False

  def __enter__(self):
    import jax

    self._alone = jax.process_count() == 1
    numbers = [signal.SIGINT] + [signal.SIGTERM] * self._alone
    try:
      for number in numbers:
        self._old[number] = signal.signal(number, self._handle)
    except ValueError:  # Not the main thread: its owner handles signals.
      pass
    return self

  def _handle(self, number, frame):
    if self._pressed:
      raise KeyboardInterrupt
    self._pressed = True
    if self._alone:
      self.asked = {signal.SIGINT: "Ctrl-C"}.get(number, "SIGTERM")
    else:
      os.kill(os.getpid(), signal.SIGTERM)

  def __exit__(self, *_):
    for number, handler in self._old.items():
      signal.signal(number, handler)
