"""Optimizers and schedules from the config.

Which parameters a rule means is said by a regular expression that is searched
(`re.search`) in the parameter's '/'-joined path, such as
'blocks_0/conv/kernel'; of several rules the first that matches counts. A rule
that matches nothing is an error: a misspelt one must not pass for one.
"""

from collections.abc import Sequence
import difflib
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import rooms

_NAMES = ("adam", "adamw", "rmsprop", "sgd")


def make(
  fields: Any,
  total: int,
  batch: int,
  size: int | None = None,
  updates: int = 1,
) -> optax.GradientTransformation:
  """Builds one network's optimizer.

  In this order: gradients to float32; those of frozen parameters to zero; the
  derivative of the decay added; clipped to a global norm; the optimizer;
  times the learning rate; times `lr_mult`.

  Decay is a term of the loss, l1 * sum|p| + l2 / 2 * sum p^2, so that its
  derivative is l1 * sign(p) + l2 * p and passes through clipping and the
  optimizer. With the name 'adamw' the l2 term is decoupled (Loshchilov and
  Hutter 2019): it bypasses both and takes lr * l2 * p off the parameter.

  A parameter with `lr_mult` 0 is frozen exactly: its update is zero, its
  moments stay zero, its gradient does not count for clipping and no decay
  touches it.

  Args:
    fields: `config.optim.g` or `config.optim.d`. `name` is adam, adamw,
      rmsprop (b2 is the decay of the squares, b1 the momentum) or sgd (b1 is
      the momentum); a momentum of 0 is none.
    total: length of the run in steps.
    batch: clips in a step, for durations in kimg.
    size: clips in the data set, for durations in epochs.
    updates: updates of this optimizer in one step (`config.d_steps` for D).

  Returns:
    An optax transformation. Its `init` raises UserError for a rule that
    matches no parameter.

  Raises:
    UserError: an unknown name, or a value that cannot be.
  """
  for name in ("b1", "b2"):
    if not 0 <= fields[name] < 1:
      raise errors.UserError(
        f"config.optim has {name}={fields[name]}; it must be at least 0 and "
        "less than 1."
      )
  if fields.clip is not None and fields.clip <= 0:
    raise errors.UserError(
      f"config.optim has clip={fields.clip}; a norm to clip to is positive. "
      "None does not clip."
    )
  momentum = fields.b1 or None
  decoupled = fields.name == "adamw"
  if fields.name in ("adam", "adamw"):
    scale = optax.scale_by_adam(b1=fields.b1, b2=fields.b2, eps=fields.eps)
  elif fields.name == "rmsprop":
    scale = optax.scale_by_rms(decay=fields.b2, eps=fields.eps)
  elif fields.name == "sgd":
    scale = optax.identity()
  else:
    raise errors.UserError(
      f"config.optim has name={fields.name!r}. "
      + rooms.nearest(fields.name, _NAMES)
    )
  chain = [
    _prepare(
      lr_mult=fields.lr_mult,
      l1=fields.l1,
      l2=() if decoupled else fields.l2,
    )
  ]
  if fields.clip is not None:
    chain.append(optax.clip_by_global_norm(fields.clip))
  chain.append(scale)
  if momentum and fields.name in ("rmsprop", "sgd"):
    chain.append(optax.trace(decay=momentum))
  if decoupled:
    chain.append(_decay(fields.l2))
  rate = learning_rate(fields, total, batch, size)
  chain.append(
    optax.scale_by_learning_rate(lambda count: rate(count // updates))
  )
  chain.append(_multiply(fields.lr_mult))
  return optax.chain(*chain)


def learning_rate(
  fields: Any, total: int, batch: int, size: int | None = None
) -> optax.Schedule:
  """The learning rate as a function of the step, before `lr_mult`."""
  return schedule(
    fields.schedule,
    start=fields.lr,
    end=fields.lr * fields.final,
    total=total,
    warmup=config_lib.steps(fields.warmup, batch, size),
  )


def schedule(
  kind: str, *, start: float, end: float, total: int, warmup: int = 0
) -> optax.Schedule:
  """A value that changes with the step; for rates and for weights.

  Step s (from 0) of the warm-up gets start * (s + 1) / warmup: it rises from
  0, and no step is wasted on the value 0. After it, with
  t = (s - warmup) / (total - warmup) clipped to [0, 1]:

    constant   start
    linear     start + (end - start) t
    cosine     end + (start - end) (1 + cos(pi t)) / 2
    geometric  start (end / start)^t

  Args:
    kind: one of these.
    start: value after the warm-up.
    end: value at step `total` and after.
    total: length in steps.
    warmup: steps of warm-up.

  Returns:
    step -> float32 (); the step may be traced.
  """
  shapes = {
    "constant": lambda t: jnp.zeros_like(t),
    "linear": lambda t: t,
    "cosine": lambda t: (1 - jnp.cos(math.pi * t)) / 2,
    "geometric": None,  # The only one that is not start + (end - start) f(t).
  }
  if kind not in shapes:
    raise errors.UserError(
      f"There is no schedule {kind!r}. " + rooms.nearest(kind, shapes)
    )

  def value(step):
    step = jnp.asarray(step, jnp.float32)
    t = jnp.clip((step - warmup) / max(total - warmup, 1), 0, 1)
    if kind == "geometric":
      result = start * (end / start) ** t
    else:
      result = start + (end - start) * shapes[kind](t)
    if warmup:
      result = jnp.where(step < warmup, start * (step + 1) / warmup, result)
    return result

  return value


# -------------------------------------------------------------------- rules


def match(params: Any, rules: Sequence, default: Any, what: str = "") -> Any:
  """Gives every parameter the value of the first rule that matches it.

  Args:
    params: tree of parameters.
    rules: ((regex, value), ...).
    default: value of parameters that no rule matches.
    what: the config field of the rules, for the error.

  Returns:
    A tree like `params` of values.

  Raises:
    UserError: a rule whose expression is found in no path.
  """
  paths = [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
  for regex, _ in rules:
    if not any(re.search(regex, path) for path in paths):
      # The part of a path that resembles the expression says most.
      close = difflib.get_close_matches(regex, paths, 1, 0.0)
      raise errors.UserError(
        f"{what or 'A rule'} has the expression {regex!r}, which matches none "
        f"of the {len(paths)} parameters. The nearest is {close[0]!r}."
        if close
        else f"{what or 'A rule'} has the expression {regex!r}, but there are "
        "no parameters."
      )
  values = [
    next((v for regex, v in rules if re.search(regex, path)), default)
    for path in paths
  ]
  return jax.tree.unflatten(jax.tree.structure(params), values)


def _prepare(*, lr_mult, l1, l2) -> optax.GradientTransformation:
  """To float32; frozen gradients to zero; adds the decay's derivative."""

  def init(params):
    for name, rules in (("lr_mult", lr_mult), ("l1", l1), ("l2", l2)):
      match(params, rules, 0.0, f"config.optim.*.{name}")
    return optax.EmptyState()

  def one(g, p, factor, a, b):
    if factor == 0:
      # Not 0 * g: a gradient that is not finite would stay so.
      return jnp.zeros_like(g, jnp.float32)
    g = g.astype(jnp.float32)
    if a:
      g += a * jnp.sign(p).astype(jnp.float32)
    if b:
      g += b * p.astype(jnp.float32)
    return g

  def update(grads, state, params=None):
    trees = (
      match(grads, lr_mult, 1.0),
      match(grads, l1, 0.0),
      match(grads, l2, 0.0),
    )
    return jax.tree.map(one, grads, params, *trees), state

  return optax.GradientTransformation(init, update)


def _decay(rules) -> optax.GradientTransformation:
  """Adds strength * p to the update: decoupled decay."""

  def init(params):
    match(params, rules, 0.0, "config.optim.*.l2")
    return optax.EmptyState()

  def update(updates, state, params=None):
    strengths = match(updates, rules, 0.0)
    return jax.tree.map(
      lambda u, p, s: u + s * p if s else u, updates, params, strengths
    ), state

  return optax.GradientTransformation(init, update)


def _multiply(rules) -> optax.GradientTransformation:
  """Multiplies updates by their `lr_mult`; exactly zero where it is 0."""

  def update(updates, state, params=None):
    del params
    factors = match(updates, rules, 1.0)
    return jax.tree.map(
      lambda u, f: jnp.zeros_like(u) if f == 0 else u if f == 1 else u * f,
      updates,
      factors,
    ), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
