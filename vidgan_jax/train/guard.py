"""Watches the numbers of a run."""

from vidgan_jax import errors
from vidgan_jax.store import workdir as workdir_lib


class Guard:
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
