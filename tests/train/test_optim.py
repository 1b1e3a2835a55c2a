"""Optimizers against formulas written out by hand in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.train import optim

PARAMS = {
  "conv": {
    "kernel": np.array([[1.0, -2.0], [0.5, 3.0]], np.float32),
    "bias": np.array([0.25, 0.0], np.float32),
  },
  "embed": {"table": np.array([-1.0, 2.0, 0.0], np.float32)},
}
RNG = np.random.default_rng(0)
GRADS = [
  jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), PARAMS)
  for _ in range(6)
]


def fields(**changes):
  got = config_lib.default().optim.g
  with got.unlocked():
    got.update(changes)
  return got


def run(tx, grads=None, params=None):
  """Parameters after each update, as lists of leaves."""
  params = jax.tree.map(jnp.asarray, params or PARAMS)
  state, out = tx.init(params), []
  update = jax.jit(tx.update)
  for g in grads or GRADS:
    updates, state = update(g, state, params)
    params = optax.apply_updates(params, updates)
    out.append(jax.tree.map(np.asarray, params))
  return out


def close(got, want, tolerance=2e-6):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=tolerance)


def by_hand(rule, lr=lambda i: 0.1, change=lambda p, g: g):
  """Applies `rule(gradient, memory, number) -> direction` to each leaf."""
  params = jax.tree.map(lambda x: x.astype(np.float64), PARAMS)
  leaves, structure = jax.tree.flatten(params)
  memory, out = [{} for _ in leaves], []
  for i, grads in enumerate(GRADS):
    grads = jax.tree.leaves(change(params, grads))
    leaves = [
      p - lr(i) * rule(np.asarray(g, np.float64), m, i)
      for p, g, m in zip(leaves, grads, memory)
    ]
    params = jax.tree.unflatten(structure, leaves)
    out.append(params)
  return out


def adam(b1, b2, eps):
  def rule(g, m, i):
    m["m"] = b1 * m.get("m", 0) + (1 - b1) * g
    m["v"] = b2 * m.get("v", 0) + (1 - b2) * g**2
    mean = m["m"] / (1 - b1 ** (i + 1))
    return mean / (np.sqrt(m["v"] / (1 - b2 ** (i + 1))) + eps)

  return rule


def sgd(momentum):
  def rule(g, m, i):
    m["m"] = momentum * m.get("m", 0) + g
    return m["m"]

  return rule


def rmsprop(decay, eps):
  def rule(g, m, i):
    m["v"] = decay * m.get("v", 0) + (1 - decay) * g**2
    return g / np.sqrt(m["v"] + eps)

  return rule


@pytest.mark.parametrize(
  "changes,rule",
  [
    (dict(name="adam", b1=0.5, b2=0.9, eps=1e-7), adam(0.5, 0.9, 1e-7)),
    (dict(name="adam", b1=0.0, b2=0.99), adam(0.0, 0.99, 1e-8)),
    (dict(name="sgd", b1=0.0), sgd(0.0)),
    (dict(name="sgd", b1=0.9), sgd(0.9)),
    (dict(name="rmsprop", b1=0.0, b2=0.9, eps=1e-6), rmsprop(0.9, 1e-6)),
  ],
)
def test_optimizers(changes, rule):
  tx = optim.make(fields(lr=0.1, **changes), 100, 8)
  for got, want in zip(run(tx), by_hand(rule)):
    close(got, want, 2e-5)


def test_decay_is_the_derivative_of_a_loss():
  l1, l2 = 0.01, 0.2
  rules = dict(l1=(("kernel$", l1),), l2=(("conv/bias", 0.0), ("conv", l2)))
  tx = optim.make(fields(name="sgd", b1=0.0, lr=0.1, **rules), 100, 8)

  def loss(params, grads):
    total = sum(
      jnp.sum(p * g)
      for p, g in zip(jax.tree.leaves(params), jax.tree.leaves(grads))
    )
    kernel = params["conv"]["kernel"]
    return (
      total + l1 * jnp.abs(kernel).sum() + l2 / 2 * jnp.square(kernel).sum()
    )

  change = lambda p, g: jax.grad(loss)(jax.tree.map(jnp.float32, p), g)
  for got, want in zip(run(tx), by_hand(sgd(0.0), change=change)):
    close(got, want)


def test_adamw_decay_bypasses_the_moments():
  tx = optim.make(
    fields(name="adamw", b1=0.5, b2=0.9, lr=0.1, l2=(("kernel", 0.3),)), 9, 8
  )
  plain = optim.make(fields(name="adam", b1=0.5, b2=0.9, lr=0.1), 9, 8)
  got, want = run(tx, GRADS[:1])[0], run(plain, GRADS[:1])[0]
  kernel = PARAMS["conv"]["kernel"]
  want["conv"]["kernel"] = want["conv"]["kernel"] - 0.1 * 0.3 * kernel
  close(got, want)


def test_clip_to_a_global_norm():
  tx = optim.make(fields(name="sgd", b1=0.0, lr=0.1, clip=0.5), 100, 8)

  def change(params, grads):
    norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(grads)))
    return jax.tree.map(lambda g: g * min(1.0, 0.5 / norm), grads)

  for got, want in zip(run(tx), by_hand(sgd(0.0), change=change)):
    close(got, want)


def test_lr_mult():
  tx = optim.make(fields(lr=0.1, lr_mult=(("embed", 0.25),)), 100, 8)
  base = optim.make(fields(lr=0.1), 100, 8)
  slow = optim.make(fields(lr=0.025), 100, 8)
  got, fast, slow = run(tx)[0], run(base)[0], run(slow)[0]
  close(got["conv"], fast["conv"])
  close(got["embed"], slow["embed"])


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_frozen_is_exactly_frozen(name):
  tx = optim.make(
    fields(
      name=name,
      b1=0.9,
      lr=0.1,
      clip=1.0,
      lr_mult=(("^conv", 0.0),),
      l1=((".", 0.1),),
      l2=((".", 0.1),),
    ),
    100,
    8,
  )
  # Neither large nor broken gradients of frozen parameters do anything.
  grads = [
    g | {"conv": jax.tree.map(lambda x, v=v: np.full_like(x, v), g["conv"])}
    for g, v in zip(GRADS, (1e30, np.nan, np.inf, 1, 2, 3))
  ]
  quiet = [g | {"conv": jax.tree.map(np.zeros_like, g["conv"])} for g in GRADS]
  params, state = jax.tree.map(jnp.asarray, PARAMS), tx.init(PARAMS)
  update = jax.jit(tx.update)
  for g in grads:
    updates, state = update(g, state, params)
    params = optax.apply_updates(params, updates)
  for leaf, old in zip(
    jax.tree.leaves(params["conv"]), jax.tree.leaves(PARAMS["conv"])
  ):
    np.testing.assert_array_equal(leaf, old)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    if "conv" in jax.tree_util.keystr(path):
      assert not leaf.any(), "a moment drifted"
  close(params["embed"], run(tx, quiet)[-1]["embed"], 1e-7)
  assert not np.array_equal(params["embed"]["table"], PARAMS["embed"]["table"])


def test_states_are_float32_whatever_the_gradients():
  tx = optim.make(fields(b1=0.5), 100, 8)
  params = jax.tree.map(jnp.asarray, PARAMS)
  state = tx.init(params)
  low = jax.tree.map(lambda g: jnp.asarray(g, jnp.bfloat16), GRADS[0])
  updates, state = tx.update(low, state, params)
  for leaf in jax.tree.leaves((updates, state)):
    assert leaf.dtype in (jnp.float32, jnp.int32)


# ----------------------------------------------------------------- schedules


def test_schedules():
  cosine = optim.schedule("cosine", start=2.0, end=1.0, total=100, warmup=10)
  got = [float(cosine(s)) for s in (0, 4, 9, 10, 55, 100, 1000)]
  np.testing.assert_allclose(
    got, [0.2, 1.0, 2.0, 2.0, 1.5, 1.0, 1.0], rtol=1e-6
  )
  linear = optim.schedule("linear", start=2.0, end=0.0, total=8)
  np.testing.assert_allclose(
    [linear(s) for s in range(9)], 2 - np.arange(9) / 4
  )
  constant = optim.schedule("constant", start=3.0, end=0.0, total=8)
  assert [float(constant(s)) for s in (0, 5, 99)] == [3.0] * 3
  assert jax.jit(cosine)(jnp.int32(55)) == pytest.approx(1.5)


def test_learning_rate_reaches_the_parameters():
  got = fields(
    name="sgd", b1=0.0, lr=1.0, schedule="linear", warmup="16kimg", final=0.5
  )
  # 16kimg of batches of 8000 are 2 steps; 6 in all.
  rate = optim.learning_rate(got, 6, 8000)
  want = [0.5, 1.0, 1.0, 0.875, 0.75, 0.625]
  np.testing.assert_allclose([rate(s) for s in range(6)], want)
  tx = optim.make(got, 6, 8000)
  for a, b in zip(run(tx), by_hand(sgd(0.0), lr=lambda i: want[i])):
    close(a, b)
  # Two updates in a step share its rate.
  tx = optim.make(got, 6, 8000, updates=2)
  for a, b in zip(run(tx), by_hand(sgd(0.0), lr=lambda i: want[i // 2])):
    close(a, b)


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize("rule", ["lr_mult", "l1", "l2"])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_rule_that_matches_nothing(rule, name):
  tx = optim.make(fields(name=name, **{rule: (("conv/kernal", 0.5),)}), 9, 8)
  with pytest.raises(errors.UserError) as e:
    tx.init(PARAMS)
  assert rule in str(e.value) and "conv/kernal" in str(e.value)
  assert "nearest is 'conv/kernel'" in str(e.value)


@pytest.mark.parametrize(
  "changes,message",
  [
    (dict(name="adm"), "Did you mean 'adam'"),
    (dict(schedule="cosin"), "Did you mean 'cosine'"),
    (dict(b1=1.0), "less than 1"),
    (dict(clip=-1.0), "positive"),
    (dict(warmup="5 parsecs"), "parsecs"),
  ],
)
def test_values_that_cannot_be(changes, message):
  with pytest.raises(errors.UserError, match=message):
    optim.make(fields(**changes), 9, 8)
