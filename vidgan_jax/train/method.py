"""What differs between runs, and how its two networks are called."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax

from vidgan_jax import losses
from vidgan_jax.models import layers
from vidgan_jax.train import state as state_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """The arguments of `adversarial.d_loss` and `adversarial.g_loss`.

  Attributes:
    generator: Linen module; `noise_spec`, `apply(params, given, z, times)` and
      perhaps `encode`, see `layers.encode_and_draw`.
    discriminator: Linen module; `apply(params, video, given, times)`.
    objective: a module of `losses` with `d_loss` and `g_loss`.
    seconds: the longest time that `batch['times']` can hold.
    total: length of the run in steps.
    penalties: name -> `losses.Penalty`.
    reconstruction: name -> `losses.Reconstruction`.
    augment: augmentation of D's input.
    adversary: when and how strongly D takes part.
  """

  generator: Any
  discriminator: Any
  objective: Any
  seconds: float
  total: int = 1
  penalties: Mapping = dataclasses.field(default_factory=dict)
  reconstruction: Mapping = dataclasses.field(default_factory=dict)
  augment: losses.Augment = losses.Augment()
  adversary: losses.Adversary = losses.Adversary()

  def due(self, step: int) -> tuple[str, ...]:
    """What a step computes, given the number of updates done.

    Returns:
      'adversary' and the names of the penalties that are due; () before the
      adversary starts.
    """
    if step < self.adversary.start:
      return ()
    lazy = (n for n, p in self.penalties.items() if step % p.interval == 0)
    return ("adversary", *lazy)

  def variants(self, start: int) -> set[tuple[str, ...]]:
    """All that `due` is from step `start` on."""
    period = math.lcm(*(p.interval for p in self.penalties.values()))
    end = min(self.total, max(start, self.adversary.start) + period)
    return {self.due(step) for step in range(start, end)}

  def draw(
    self, g: Any, state: state_lib.State, batch: Mapping, keys: jax.Array
  ) -> tuple[layers.Drawn, dict[str, jax.Array]]:
    """What G makes of a batch.

    Args:
      g: parameters of G.
      state: of the run, for how far it is.
      batch: 'given', 'times', and 'target' if G may encode it, see
        `layers.encode_and_draw`.
      keys: (B,).

    Returns:
      The clips, with the costs among their `losses`, and z.
    """
    z = state_lib.sample_noise(self.generator.noise_spec(self.seconds), keys)
    given = state_lib.in_training(batch["given"], state.step / self.total, keys)
    target, times = batch.get("target"), batch["times"]
    return self.generator.apply(
      {"params": g}, target, given, z, times, method=layers.encode_and_draw
    )

  def score(
    self,
    d: Any,
    state: state_lib.State,
    video: jax.Array,
    batch: Mapping,
    keys: jax.Array,
  ) -> layers.Scores:
    """What D says of clips (B, T, H, W, C) that are told as the batch's."""
    given = state_lib.in_training(batch["given"], state.step / self.total, keys)
    return self.discriminator.apply({"params": d}, video, given, batch["times"])
