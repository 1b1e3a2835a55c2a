"""What G and D descend: objectives, one a file; penalties; reconstructions.

`create` makes of a config the parts of a `train.adversarial.Method`.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import importlib
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidgan_jax import errors
from vidgan_jax import experts
from vidgan_jax import rooms
from vidgan_jax.data import text as text_lib
from vidgan_jax.losses import augment as augment_lib
from vidgan_jax.losses import penalties as penalties_lib
from vidgan_jax.losses import reconstruction as reconstruction_lib
from vidgan_jax.train import optim


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty:
  """One penalty on the discriminator.

  Attributes:
    fn: from `losses.penalties`, which says the two signatures.
    on_slope: it is one on D's slope; else one on its scores, a regulariser.
    weight: step -> factor of the penalty in D's loss (gamma / 2 of the
      papers).
    interval: computed every so many steps, then times the interval ("lazy",
      Karras et al. 2020, appendix B).

  Whether a penalty is due is a static argument of the step, not a `lax.cond`
  in it: XLA runs convolutions inside a conditional ten times slower on a CPU.
  """

  fn: Callable
  weight: optax.Schedule
  interval: int = 1
  on_slope: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
  """Augmentation of all that the discriminator sees.

  Attributes:
    policy: names of `losses.augment`, comma separated; '' is none.
    target: wanted mean sign of D(real), seen from half-way between the
      running means of D(real) and D(fake) (Karras et al. 2020); None keeps
      the probability where it is.
    kimg: thousands of clips in which the probability may go from 0 to 1.
  """

  policy: str = ""
  target: float | None = None
  kimg: float = 100.0

  def __call__(self, video: jax.Array, keys: jax.Array, p: jax.Array):
    """(B, T, H, W, C), (B,), () -> the clips, each transformed with p."""
    if not self.policy:
      return video
    return augment_lib.augment(video, keys, p, self.policy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
  """One loss beside the objective.

  Attributes:
    fn: (fake, batch, extras) -> (B,), from `losses.reconstruction`; None for a
      loss that a network makes itself (`layers.Drawn`, `layers.Scores`).
    weight: factor in G's loss, and in D's if D makes it.
    expert: the frozen network that `fn` asks, or None.
  """

  fn: Callable | None = None
  weight: float = 1.0
  expert: experts.Expert | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversary:
  """When and how strongly D takes part.

  Attributes:
    weight: step -> factor of the objective in G's loss.
    start: first step with D; G learns from its reconstruction alone until
      then, at the cost of a network without adversary.
    hold: D rests while the running mean of D(real) - D(fake) is above this
      (after Chu et al. 2020, section 3.2); None: never.
  """

  weight: optax.Schedule = lambda step: 1.0
  start: int = 0
  hold: float | None = None


def create(
  config: Any,
  total: int,
  count: Callable[[str], int],
  text: text_lib.Encoder | None = None,
) -> dict[str, Any]:
  """The parts of a `train.adversarial.Method` that a config describes.

  Args:
    config: of the run, validated.
    total: length of the run in steps.
    count: a duration -> steps.
    text: encoder of the texts that are given.

  Raises:
    UserError: an option or a value that cannot be.
  """
  fields = config.augment
  return dict(
    objective=importlib.import_module(f"vidgan_jax.losses.{config.objective}"),
    penalties=_penalties(config, total),
    reconstruction=_reconstruction(config, text),
    adversary=_adversary(config, count),
    augment=Augment(
      policy=fields.policy, target=fields.target, kimg=fields.kimg
    ),
  )


def made(
  network: Any, values: Mapping[str, jax.Array], method: Any
) -> dict[str, jax.Array]:
  """Means of the losses that a network makes itself.

  Args:
    network: that makes them.
    values: name -> (B,).
    method: its `reconstruction` weighs them.

  Raises:
    UserError: a loss without a weight, which would count for nothing.
    ValueError: a loss that is not one number a clip.
  """
  who = f"{type(network).__module__}.{type(network).__name__}"
  parts = method.reconstruction
  for name, value in values.items():
    if name not in parts or parts[name].fn is not None:
      raise errors.UserError(
        f"{who} makes the loss {name!r}, and config.reconstruction weighs "
        f"{', '.join(map(repr, parts)) or 'nothing'}: set "
        f"config.reconstruction.{name}.weight, 0 to record it alone (it must "
        "stand in LOSSES of the model's file and not be a function of "
        "losses/reconstruction.py)."
      )
    if value.ndim != 1:
      raise ValueError(
        f"{who} makes the loss {name!r} of shape {value.shape}; it must be "
        "(B,), one number a clip."
      )
  return {name: jnp.mean(value) for name, value in values.items()}


def check_complete(
  parts: Mapping[str, Reconstruction], made: Mapping[str, jax.Array]
) -> None:
  """Raises UserError if a loss is weighed that neither network makes."""
  for name, part in parts.items():
    if part.fn is None and name not in made:
      raise errors.UserError(
        f"config.reconstruction.{name}: the networks make no such loss. "
        + rooms.nearest(name, made)
      )


def _penalties(config, total):
  parts = {}
  for name, fields in config.penalties.items():
    fn = getattr(penalties_lib, name)
    weight, final = fields["weight"], fields["final"]
    kind = "constant" if final is None else "geometric" if final else "linear"
    parts[name] = Penalty(
      fn=fn,
      weight=optim.schedule(kind, start=weight, end=final or 0.0, total=total),
      interval=fields["interval"],
      on_slope="score_fn" in inspect.signature(fn).parameters,
    )
  # Those on the slope first: the place of one says what it draws.
  return dict(sorted(parts.items(), key=lambda part: not part[1].on_slope))


def _reconstruction(config, text):
  parts = {}
  made = rooms.model_losses(config.model.name)
  for name, fields in config.reconstruction.items():
    options = dict(fields)
    weight = options.pop("weight", 1.0)
    own = name in made
    fn = Reconstruction if own else getattr(reconstruction_lib, name)
    rooms.check_kwargs(
      fn,
      options,
      f"config.reconstruction.{name}",
      given=("fn", "expert") if own else ("fake", "batch", "extras"),
    )
    expert = None
    if not own and "expert" in inspect.signature(fn).parameters:
      expert = experts.load(options.get("expert", "")).of_texts(text)
      options["expert"] = expert
    fn = None if own else functools.partial(fn, **options)
    parts[name] = Reconstruction(fn=fn, weight=weight, expert=expert)
  return parts


def _adversary(config, count):
  fields = config.adversary
  start, ramp = count(fields.start), count(fields.ramp)
  why, remedy = f"start is {fields.start!r}, but until then", "start at 0steps"
  if not fields.weight:  # D would train to no end.
    start = np.iinfo(np.int32).max
    why, remedy = "weight is 0, so", "give it a weight"
  if start and not config.reconstruction:
    raise errors.UserError(
      f"config.adversary.{why} nothing would be learnt: config.reconstruction"
      " is empty. Set config.reconstruction.charbonnier.weight=1, say, or "
      f"{remedy}."
    )
  slope = np.float32(fields.weight / max(ramp, 1))
  return Adversary(
    weight=lambda step: jnp.clip(slope * (step - start + 1), 0, fields.weight),
    start=start,
    hold=fields.hold,
  )
