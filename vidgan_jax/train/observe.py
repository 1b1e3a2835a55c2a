"""What a training run shows of itself: samples and evaluations, when due."""

from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from vidgan_jax import pixels
from vidgan_jax import sampler
from vidgan_jax import tasks
from vidgan_jax.data import text as text_lib
from vidgan_jax.devices import preemption
from vidgan_jax.devices import sharding
from vidgan_jax.evals import harness
from vidgan_jax.store import provenance
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import writer as writer_lib


def due(step: int, every: int, total: int) -> bool:
  """True each `every` steps and at the end; never for 0."""
  return every > 0 and (step % every == 0 or step == total)


class Observer:
  """Looks at a run. Every process makes one and calls alike.

  Attributes:
    real: the held-out clips.
  """

  def __init__(
    self,
    config: Any,
    workdir: pathlib.Path,
    writer: writer_lib.Writer,
    task: tasks.Task,
    stop: preemption.Signals,
    encoder: text_lib.Encoder | None,
  ):
    """Builds the evaluators and opens the held-out clips.

    Args:
      config: of the run.
      workdir: where results go.
      writer: gets samples and numbers.
      task: of the run.
      stop: ends what is being made.
      encoder: of the texts of the training clips; None: they have none.
    """
    self._config, self._workdir, self._writer = config, workdir, writer
    self._task, self._stop = task, stop
    self._evaluators = harness.make_evaluators(config.evals)
    self._reference = harness.reference(
      config, workdir, self._evaluators, encoder=encoder
    )
    self.real = self._reference.clips
    few = harness.too_few(self._evaluators, self._reference)
    for name, reason in few.items():
      del self._evaluators[name]
      writer.log(f"config.evals.{name} is left out: {reason}.")

  def begin(
    self,
    record: provenance.Record,
    step: int,
    total: int,
    count: Callable[[str], int],
  ) -> None:
    """To be called before the first step.

    Args:
      record: of the run.
      step: steps done before.
      total: steps of the whole run.
      count: a duration -> steps.
    """
    cadence, evals = self._config.cadence, self._config.evals
    self._total, self._start = total, step
    self._every = {"samples": count(cadence.sample)} | {
      f"evals/{name}": count(evals[name].get("cadence", cadence.eval))
      for name in self._evaluators
    }
    self._made = self._made_before(step) if step else set()
    made = sampler.build(None, dataclasses.replace(record, step=step))
    self._sampler = dataclasses.replace(made, examples=self.real)
    gaps = np.diff(record.times)
    self._fps = 1 / np.median(gaps) if len(gaps) else 1
    if step == 0:
      clips = self.real.read(range(min(16, len(self.real))))
      self._videos(0, {"real": writer_lib.stack(clips)})

  def judges(self, step: int) -> bool:
    """Whether `look` has evaluators to run: it may take long."""
    return any(name.startswith("evals/") for name in self._todo(step))

  def _todo(self, step: int) -> list[str]:
    made = self._made if step == self._start else ()
    return [
      name
      for name, every in self._every.items()
      if due(step, every, self._total) and name not in made
    ]

  def look(self, step: int, ema: Any) -> None:
    """Makes what is due before step `step`.

    Args:
      step: steps done.
      ema: averaged parameters of the generator, wherever they live.

    Raises:
      preemption.Stopped: a signal came. What is whole has been written.
    """
    todo = self._todo(step)
    if not todo:
      return
    if jax.process_count() > 1:
      ema = sharding.fetch(ema)  # Each process draws its share by itself.
    now = self._sampler.with_params(ema, step)
    if "samples" in todo and jax.process_index() == 0:
      with self._stop.at_once():
        samples = self._samples(now)
      self._videos(step, samples)
    for name, evaluator in self._evaluators.items():
      if f"evals/{name}" in todo:  # By all processes: they share the clips.
        self._judge(name, evaluator, now)
    multihost_utils.sync_global_devices("looked")
    self._writer.pause_ended()

  def _judge(self, name, evaluator, now) -> None:
    # What fails is recorded as not computed: training is worth more.
    failed = {}
    with self._stop.at_once():
      values = harness.run(
        {name: evaluator}, now, self._reference, self._writer.log, failed
      )
    self._writer.scalars(now.step, harness.numbers(values))
    if jax.process_index() == 0:
      options = {} if failed else {name: self._config.evals.to_dict()[name]}
      harness.write(self._workdir, now.step, values, options)

  def _samples(self, now) -> dict[str, np.ndarray]:
    """Clips of fixed noise, or what is made of fixed clips."""
    if self._task.footage is None:
      return {"samples": now.clips(now.ask(16), 0)}
    clips = self.real.prepared(range(min(8, len(self.real))))
    batch = jax.tree.map(lambda *x: np.stack(x), *clips)
    fake = now.apply(batch["given"], batch["times"])
    videos = self._task.preview(batch, fake)
    return {name: pixels.to_bytes(video) for name, video in videos.items()}

  def _videos(self, step, videos) -> None:
    self._writer.videos(step, videos, self._fps)

  def _made_before(self, step) -> set[str]:
    """What was made of a step before the stop.

    A run that is asked to stop does so before it looks at its last step.
    """
    row = harness.read(workdir_lib.evaluation(self._workdir, step))
    # One that failed has a record of its own name, and is not tried again.
    ran = row.get("evaluators", {}).keys() | row.get("records", {}).keys()
    folder = workdir_lib.sample(self._workdir, step).parent
    made = {"samples": any(folder.glob(f"*{step:07d}.png"))}
    made |= {f"evals/{name}": name in ran for name in self._evaluators}
    # Process 0 wrote them, on a disk that the others may not see.
    flags = multihost_utils.broadcast_one_to_all(np.array([*made.values()]))
    return {name for name, flag in zip(made, flags) if flag}
