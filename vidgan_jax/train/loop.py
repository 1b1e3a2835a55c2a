"""THE loop: from a config to a trained run in its workdir."""

import contextlib
import os

import jax
from jax.experimental import multihost_utils

from vidgan_jax import errors
from vidgan_jax.devices import preemption
from vidgan_jax.devices import processes
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import guard as guard_lib
from vidgan_jax.train import start as start_lib
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
          run = start_lib.start(
            config, workdir, data_changed, writer, stop, stack
          )
      except preemption.Stopped:
        writer.log(f"Stopped by {stop.asked} before a step was made.")
        return False
      return _loop(run, config, workdir, writer, stop)


def _loop(run, config, workdir, writer, stop) -> bool:
  """Steps, lines, checkpoints and looks, until the end or a stop."""
  start, total = run.start, run.total
  state, checkpoints, observer = run.state, run.checkpoints, run.observer
  every = run.count(config.cadence.log)
  writer.start(start, total, config.batch, every, run.sums)
  guard = guard_lib.Guard(config, workdir, writer.log)

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
