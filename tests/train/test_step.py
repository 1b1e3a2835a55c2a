"""The step against a reference written out by hand, and its properties."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidgan_jax import rooms
from vidgan_jax.losses import penalties as penalties_lib
from vidgan_jax.losses import relativistic
from vidgan_jax.models import mlp
from vidgan_jax.train import state as state_lib
from vidgan_jax.train import step as step_lib

SHAPE = dict(resolution=8, frames=2, num_classes=3)
GENERATOR = mlp.Generator(**SHAPE)
DISCRIMINATOR = mlp.Discriminator(**SHAPE)
D_AND_R1 = ("adversary", "r1")


def _batch(num=8, seed=0):
  rng = np.random.default_rng(seed)
  return {
    "given": {"label": jnp.asarray(np.arange(num) % 3, jnp.int32)},
    "target": jnp.asarray(rng.uniform(-1, 1, (num, 2, 8, 8, 3)), jnp.float32),
    "times": jnp.tile(jnp.array([0.0, 0.5]), (num, 1)),
  }


def _make(tx=None, d_tx=None, **options):
  g_tx = tx or optax.sgd(0.1)
  d_tx = d_tx or g_tx
  options = dict(objective=relativistic) | options
  step = step_lib.make_step(
    generator=GENERATOR,
    discriminator=DISCRIMINATOR,
    g_tx=g_tx,
    d_tx=d_tx,
    seconds=1.0,
    **options,
  )
  state = state_lib.create(
    seed=0,
    generator=GENERATOR,
    discriminator=DISCRIMINATOR,
    g_tx=g_tx,
    d_tx=d_tx,
    batch=_batch(),
    seconds=1.0,
    augment_p=0.5,
  )
  return step, state


def _r1(weight, interval=1):
  return {
    "r1": step_lib.Penalty(
      fn=penalties_lib.r1, weight=lambda _: weight, interval=interval
    )
  }


def _close(a, b, atol=1e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=atol, rtol=1e-5)


def _differ(a, b):
  return any(
    np.any(np.asarray(x) != np.asarray(y))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_one_step_is_what_the_papers_say():
  weight, rate = 0.7, 0.1
  step, state = _make(penalties=_r1(weight))
  batch = _batch()
  new, metrics = jax.jit(step, static_argnums=2)(state, batch, D_AND_R1)

  rng = jax.random.fold_in(state.key, 0)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(8))
  fold = lambda i: jax.vmap(jax.random.fold_in, (0, None))(keys, i)
  spec = GENERATOR.noise_spec(1.0)

  def fake(g, i):
    z = state_lib.sample_noise(spec, fold(i))
    return GENERATOR.apply({"params": g}, batch["given"], z, batch["times"])

  def score(d, video):
    out = DISCRIMINATOR.apply(
      {"params": d}, video, batch["given"], batch["times"]
    )
    return out.logits[0].reshape(8)

  def d_loss(d):
    real = batch["target"]
    gap = score(d, real) - score(d, fake(state.g, 0))
    slope = jax.grad(lambda x: score(d, x).sum())(real)
    penalty = jnp.sum(slope**2, (1, 2, 3, 4)).mean()
    return jnp.mean(jnp.log1p(jnp.exp(-gap))) + weight * penalty

  d = jax.tree.map(
    lambda p, g: p - rate * g, state.d, jax.grad(d_loss)(state.d)
  )
  _close(new.d, d)

  def g_loss(g):
    gap = score(d, fake(g, 100)) - score(d, batch["target"])
    return jnp.mean(jnp.log1p(jnp.exp(-gap)))

  g = jax.tree.map(
    lambda p, g: p - rate * g, state.g, jax.grad(g_loss)(state.g)
  )
  _close(new.g, g)
  np.testing.assert_allclose(metrics["g/loss"], g_loss(state.g), rtol=1e-5)
  # 8 clips shown, half-life min(10000, 5 % of 8) clips.
  decay = 0.5 ** (8 / (0.05 * 8))
  _close(
    new.ema, jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, state.g, g)
  )
  assert int(new.step) == 1


def test_jit_is_eager():
  step, state = _make(penalties=_r1(1.0))
  eager = step(state, _batch(), D_AND_R1)
  jitted = jax.jit(step, static_argnums=2)(state, _batch(), D_AND_R1)
  keep = lambda s: s.replace(key=jax.random.key_data(s.key))
  _close((keep(eager[0]), eager[1]), (keep(jitted[0]), jitted[1]), 1e-5)


@pytest.mark.parametrize("policy", ["", "color,translation,cutout"])
def test_accumulation_changes_nothing(policy):
  results = []
  for parts in (1, 4):
    step, state = _make(
      penalties=_r1(2.0),
      accumulate=parts,
      augment=step_lib.Augment(policy=policy),
    )
    results.append(jax.jit(step, static_argnums=2)(state, _batch(), D_AND_R1))
  (one, m1), (four, m4) = results
  _close((one.g, one.d, one.ema), (four.g, four.d, four.ema), 1e-5)
  np.testing.assert_allclose(m1["d/r1"], m4["d/r1"], rtol=1e-4)


def test_two_updates_of_d_for_one_of_g():
  tx = optax.adam(1e-3)
  step, state = _make(tx, d_steps=2)
  batch = _batch(16)
  new, _ = jax.jit(step)(state, batch)
  assert int(new.d_opt[0].count) == 2 and int(new.g_opt[0].count) == 1
  # The parts are interleaved: with only the first one, D ends elsewhere.
  once, state = _make(tx)
  first, _ = jax.jit(once)(state, jax.tree.map(lambda x: x[::2], batch))
  assert _differ(new.d, first.d)


def test_penalties_are_lazy_and_scaled():
  penalties = _r1(3.0, interval=4)
  due = [step_lib.due(penalties, 0, i) for i in range(5)]
  assert due == [
    D_AND_R1,
    ("adversary",),
    ("adversary",),
    ("adversary",),
    D_AND_R1,
  ]
  # Before the adversary begins, nothing of D is computed.
  due = [step_lib.due(penalties, 3, i) for i in range(5)]
  assert due == [(), (), (), ("adversary",), D_AND_R1]
  step, state = _make(penalties=penalties)
  new, metrics = jax.jit(step, static_argnums=2)(state, _batch(), D_AND_R1)
  every, state = _make(penalties=_r1(12.0))
  same, _ = jax.jit(every, static_argnums=2)(state, _batch(), D_AND_R1)
  _close(new.d, same.d)
  assert "d/r1" in metrics
  _, metrics = jax.jit(step, static_argnums=2)(state, _batch(), ("adversary",))
  assert "d/r1" not in metrics


def _squares(fake, batch, extras):
  del extras
  return jnp.mean(jnp.square(fake - batch["target"]), (1, 2, 3, 4))


def test_regression_before_the_adversary():
  """Without it G descends its reconstruction, and D rests."""
  parts = {"squares": step_lib.Reconstruction(fn=_squares, weight=2.0)}
  step, state = _make(reconstruction=parts)
  batch = _batch()
  step = jax.jit(step, static_argnums=2)
  new, metrics = step(state, batch, ())
  assert not _differ(new.d, state.d) and not _differ(new.lecam, state.lecam)
  assert not any(name.startswith("d/") for name in metrics)
  np.testing.assert_allclose(metrics["g/loss"], 2 * metrics["g/squares"])
  losses = [metrics["g/squares"]]
  for _ in range(30):
    new, metrics = step(new, batch, ())
    losses.append(metrics["g/squares"])
  assert losses[-1] < 0.97 * losses[0]


def test_the_adversary_is_weighed_against_the_reconstruction():
  parts = {"squares": step_lib.Reconstruction(fn=_squares, weight=2.0)}
  both, state = _make(
    reconstruction=parts,
    adversary=step_lib.Adversary(weight=lambda step: 0.25 * (step + 1)),
  )
  new, metrics = jax.jit(both)(state, _batch())
  assert _differ(new.d, state.d)
  np.testing.assert_allclose(
    metrics["g/loss"],
    2 * metrics["g/squares"] + 0.25 * metrics["g/adversarial"],
    rtol=1e-6,
  )
  # With a weight of nothing G goes where regression alone leads it.
  without, state = _make(
    reconstruction=parts,
    adversary=step_lib.Adversary(weight=lambda step: 0.0),
  )
  alone, _ = jax.jit(without)(state, _batch())
  regression, _ = jax.jit(without, static_argnums=2)(state, _batch(), ())
  _close(alone.g, regression.g)


def test_the_reconstruction_gets_scores_and_the_generator():
  seen = []

  def look(fake, batch, extras):
    seen.append(extras)
    again = extras.generate(batch["given"], batch["times"])
    return jnp.sum(jnp.square(again - fake), (1, 2, 3, 4))

  step, state = _make(reconstruction={"look": step_lib.Reconstruction(fn=look)})
  _, metrics = step(state, _batch())
  # The same noise: the same clip.
  np.testing.assert_allclose(metrics["g/look"], 0, atol=1e-6)
  assert seen[0].real.logits[0].shape == seen[0].fake.logits[0].shape == (8,)
  step(state, _batch(), ())
  assert seen[1].real is None and seen[1].fake is None


def test_d_rests_while_it_is_too_far_ahead():
  for hold, ahead, rests in ((0.5, 0.6, True), (0.5, 0.4, False)):
    step, state = _make(adversary=step_lib.Adversary(hold=hold))
    state = state.replace(lecam=jnp.array([ahead, 0.0]))
    new, metrics = jax.jit(step)(state, _batch())
    assert _differ(new.d, state.d) != rests
    assert _differ(new.g, state.g)
    np.testing.assert_allclose(metrics["d/ahead"], ahead, rtol=1e-6)
    # It goes on when the mean has fallen.
    assert _differ(new.lecam, state.lecam)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_bad_update_is_skipped_whole(poison):
  tx = optax.adam(1e-3)
  step, state = _make(tx)
  jitted = jax.jit(step)
  good, _ = jitted(state, _batch())
  bad = _batch()
  bad["target"] = bad["target"].at[3].set(poison)
  after, metrics = jitted(good, bad)
  for name in ("g", "d", "ema", "g_opt", "d_opt", "lecam", "augment_p"):
    assert not _differ(getattr(good, name), getattr(after, name)), name
  assert int(after.step) == 2
  assert int(after.skipped) == int(after.skipped_in_a_row) == 1
  assert float(metrics["skipped_in_a_row"]) == 1
  again, _ = jitted(after, _batch())
  assert int(again.skipped) == 1 and int(again.skipped_in_a_row) == 0
  assert _differ(after.g, again.g)


def test_adaptive_augmentation_moves_towards_its_target():
  for target, sign in ((-1.1, 1), (1.1, -1)):
    step, state = _make(
      augment=step_lib.Augment(policy="color", target=target, kimg=1.0)
    )
    new, _ = jax.jit(step)(state, _batch())
    change = float(new.augment_p - state.augment_p)
    assert np.sign(change) == sign, (target, change)
    np.testing.assert_allclose(abs(change), 8 / 1000, rtol=1e-3)


@pytest.mark.parametrize("name", rooms.names("losses"))
def test_every_objective_moves_both_networks(name):
  objective = importlib.import_module(f"vidgan_jax.losses.{name}")
  step, state = _make(objective=objective, lecam=lambda step: 0.1)
  new, metrics = jax.jit(step)(state, _batch())
  assert _differ(new.g, state.g) and _differ(new.d, state.d)
  assert all(np.isfinite(x) for x in jax.tree.leaves(metrics))


def test_a_batch_that_cannot_be_split_is_refused():
  step, state = _make(accumulate=3)
  with pytest.raises(ValueError, match="8 clips.*3 parts.*config.accumulate"):
    jax.eval_shape(step, state, _batch())


def test_noise_is_a_sample_s_own():
  spec = {"content": (4,), "motion": (6, 2)}
  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(0), jnp.arange(5)
  )
  z = state_lib.sample_noise(spec, keys)
  one = state_lib.sample_noise(spec, keys[3:4])
  _close(jax.tree.map(lambda x: x[3:4], z), one)
  longer = state_lib.sample_noise(spec | {"motion": (9, 2)}, keys)
  _close(z["motion"], longer["motion"][:, :6])
  many = state_lib.sample_noise({"z": (20_000,)}, keys)["z"]
  assert abs(float(many.mean())) < 0.02 and abs(float(many.std()) - 1) < 0.02
