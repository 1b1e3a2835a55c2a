"""The step against a reference written out by hand, and its properties."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidgan_jax import errors
from vidgan_jax import losses
from vidgan_jax import rooms
from vidgan_jax.losses import penalties as penalties_lib
from vidgan_jax.losses import relativistic
from vidgan_jax.models import layers
from vidgan_jax.models import mlp
from vidgan_jax.train import adversarial
from vidgan_jax.train import method as method_lib
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


def _method(**options):
  networks = dict(generator=GENERATOR, discriminator=DISCRIMINATOR)
  options = networks | dict(objective=relativistic, seconds=1.0) | options
  return method_lib.Method(**options)


def _make(tx=None, d_tx=None, d_steps=1, accumulate=1, **options):
  """Step and state; `options` are fields of the method."""
  g_tx = tx or optax.sgd(0.1)
  d_tx = d_tx or g_tx
  method = _method(**options)
  step = step_lib.make_step(
    method, g_tx=g_tx, d_tx=d_tx, d_steps=d_steps, accumulate=accumulate
  )
  state = state_lib.create(
    seed=0,
    generator=method.generator,
    discriminator=method.discriminator,
    g_tx=g_tx,
    d_tx=d_tx,
    batch=_batch(),
    seconds=1.0,
    augment_p=0.5,
  )
  return step, state


def _r1(weight, interval=1):
  return {
    "r1": losses.Penalty(
      fn=penalties_lib.r1, weight=lambda _: weight, interval=interval
    )
  }


def _lecam(weight):
  return {
    "lecam": losses.Penalty(
      fn=penalties_lib.lecam, weight=lambda _: weight, on_slope=False
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
      augment=losses.Augment(policy=policy),
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
  method = _method(penalties=penalties, total=9)
  due = [method.due(i) for i in range(5)]
  assert due == [
    D_AND_R1,
    ("adversary",),
    ("adversary",),
    ("adversary",),
    D_AND_R1,
  ]
  # Before the adversary begins, nothing of D is computed.
  late = _method(
    penalties=penalties, total=9, adversary=losses.Adversary(start=3)
  )
  due = [late.due(i) for i in range(5)]
  assert late.variants(0) == {*due} and len(method.variants(1)) == 2
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
  parts = {"squares": losses.Reconstruction(fn=_squares, weight=2.0)}
  step, state = _make(reconstruction=parts)
  batch = _batch()
  step = jax.jit(step, static_argnums=2)
  new, metrics = step(state, batch, ())
  assert not _differ(new.d, state.d) and not _differ(
    new.score_means, state.score_means
  )
  assert not any(name.startswith("d/") for name in metrics)
  np.testing.assert_allclose(metrics["g/loss"], 2 * metrics["g/squares"])
  values = [metrics["g/squares"]]
  for _ in range(30):
    new, metrics = step(new, batch, ())
    values.append(metrics["g/squares"])
  assert values[-1] < 0.97 * values[0]


def test_the_adversary_is_weighed_against_the_reconstruction():
  parts = {"squares": losses.Reconstruction(fn=_squares, weight=2.0)}
  both, state = _make(
    reconstruction=parts,
    adversary=losses.Adversary(weight=lambda step: 0.25 * (step + 1)),
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
    adversary=losses.Adversary(weight=lambda step: 0.0),
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

  step, state = _make(reconstruction={"look": losses.Reconstruction(fn=look)})
  _, metrics = step(state, _batch())
  # The same noise: the same clip.
  np.testing.assert_allclose(metrics["g/look"], 0, atol=1e-6)
  assert seen[0].real.logits[0].shape == seen[0].fake.logits[0].shape == (8,)
  step(state, _batch(), ())
  assert seen[1].real is None and seen[1].fake is None


def test_d_rests_while_it_is_too_far_ahead():
  for hold, ahead, rests in ((0.5, 0.6, True), (0.5, 0.4, False)):
    step, state = _make(adversary=losses.Adversary(hold=hold))
    state = state.replace(score_means=jnp.array([ahead, 0.0]))
    new, metrics = jax.jit(step)(state, _batch())
    assert _differ(new.d, state.d) != rests
    assert _differ(new.g, state.g)
    np.testing.assert_allclose(metrics["d/ahead"], ahead, rtol=1e-6)
    # It goes on when the mean has fallen.
    assert _differ(new.score_means, state.score_means)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_bad_update_is_skipped_whole(poison):
  tx = optax.adam(1e-3)
  step, state = _make(tx)
  jitted = jax.jit(step)
  good, _ = jitted(state, _batch())
  bad = _batch()
  bad["target"] = bad["target"].at[3].set(poison)
  after, metrics = jitted(good, bad)
  for name in ("g", "d", "ema", "g_opt", "d_opt", "score_means", "augment_p"):
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
      augment=losses.Augment(policy="color", target=target, kimg=1.0)
    )
    new, _ = jax.jit(step)(state, _batch())
    change = float(new.augment_p - state.augment_p)
    assert np.sign(change) == sign, (target, change)
    np.testing.assert_allclose(abs(change), 8 / 1000, rtol=1e-3)


@pytest.mark.parametrize("name", rooms.names("losses"))
def test_every_objective_moves_both_networks(name):
  objective = importlib.import_module(f"vidgan_jax.losses.{name}")
  step, state = _make(objective=objective, penalties=_lecam(0.1))
  new, metrics = jax.jit(step, static_argnums=2)(
    state, _batch(), ("adversary", "lecam")
  )
  assert "d/lecam" in metrics
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


def test_the_averages_of_scores_follow_them():
  step, state = _make()
  state = state.replace(score_means=jnp.array([1.0, -3.0]))
  new, metrics = jax.jit(step)(state, _batch())
  now = np.array([metrics["d/real"], metrics["d/fake"]])
  want = 0.99 * np.array([1.0, -3.0]) + 0.01 * now
  np.testing.assert_allclose(new.score_means, want, rtol=1e-5)


def test_heads_weigh_the_same_in_float32():
  """A head of many logits counts no more than a head of one."""
  rng = np.random.default_rng(0)
  draw = lambda: layers.Scores(
    tuple(jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in (6, (6, 5))),
    ((), ()),
  )
  real, fake = draw(), draw()
  got = adversarial._over_heads(relativistic.d_loss, real, fake)
  wide = lambda x: x.astype(jnp.float32)
  each = [
    relativistic.d_loss(wide(r), wide(f))
    for r, f in zip(real.logits, fake.logits)
  ]
  assert got.dtype == jnp.float32 and abs(each[0] - each[1]) > 1e-3
  np.testing.assert_allclose(got, np.mean(each), rtol=1e-6)
  for wrong in (
    layers.Scores(fake.logits[:1], ((),)),  # A head less.
    layers.Scores((fake.logits[0][:1], fake.logits[1]), ((), ())),
  ):
    with pytest.raises(ValueError):
      adversarial._over_heads(relativistic.d_loss, real, wrong)


# -------------------------------------- what networks may do beside their job


class _Encoder(nn.Module):
  """A generator with all that a generator may have."""

  cost: str = "kl"
  rows: bool = False

  def noise_spec(self, seconds):
    return {"z": (4,)}

  def setup(self):
    self.mean, self.out = nn.Dense(4), nn.Dense(2 * 8 * 8 * 3)

  def encode(self, target, given, z, times):
    mean = self.mean(target.reshape(len(target), -1))
    value = 0.5 * jnp.square(mean)
    return {"z": mean + z["z"]}, {
      self.cost: value if self.rows else value.sum(-1)
    }

  def __call__(self, given, z, times):
    # Noise that is there in training alone, and fades.
    noise = jax.vmap(lambda key: jax.random.normal(key, (4,)))(given["keys"])
    x = z["z"] + (1 - given["progress"]) * noise
    video = nn.tanh(self.out(x)).reshape(-1, 2, 8, 8, 3)
    return layers.Drawn(video, {"rate": jnp.sum(jnp.square(x), -1)}, {"x": x})


class _Asking(nn.Module):
  """A discriminator that sees one frame, and is asked for the class."""

  @nn.compact
  def __call__(self, video, given, times):
    pick = jax.vmap(lambda key: jax.random.randint(key, (), 0, 2))
    frame = video[jnp.arange(len(video)), pick(given["keys"])]
    x = nn.relu(nn.Dense(8)(frame.reshape(len(video), -1)))
    classes = jax.nn.log_softmax(nn.Dense(3)(x))
    right = jnp.take_along_axis(classes, given["label"][:, None], 1)[:, 0]
    return layers.Scores((nn.Dense(1)(x)[:, 0],), ((),), {"label": -right})


def _weighed(**weights):
  return {k: losses.Reconstruction(weight=w) for k, w in weights.items()}


def test_networks_may_make_losses_of_their_own():
  options = dict(generator=_Encoder(), discriminator=_Asking(), total=10)
  weights = dict(kl=0.5, rate=0.1, label=2.0)
  seen = []

  def look(fake, batch, extras):
    seen.append((extras.z, extras.extra))
    return jnp.zeros(len(fake))

  parts = _weighed(**weights) | {"look": losses.Reconstruction(fn=look)}
  step, state = _make(reconstruction=parts, **options)
  new, metrics = jax.jit(step)(state, _batch())
  assert _differ(new.d, state.d)
  # The encoder learns too: the target comes to G, in training alone.
  assert _differ(new.g["mean"], state.g["mean"])
  want = metrics["g/adversarial"] + sum(
    w * metrics[f"g/{name}"] for name, w in weights.items()
  )
  np.testing.assert_allclose(metrics["g/loss"], want, rtol=1e-5)
  assert metrics["d/label"] > 0 and "d/kl" not in metrics
  (z, extra), *_ = seen
  assert z["z"].shape == extra["x"].shape == (8, 4)
  # All of it is drawn clip by clip, so in parts it is the same.
  parts, state = _make(reconstruction=parts, accumulate=2, **options)
  same, _ = jax.jit(parts)(state, _batch())
  _close((same.g, same.d), (new.g, new.d), 1e-5)


def test_d_answers_of_real_clips_and_g_of_its_own():
  """Each network's gradient is that of its own side of the question."""
  parts = _weighed(kl=0.0, rate=0.0, label=1.0)
  options = dict(generator=_Encoder(), discriminator=_Asking(), total=10)
  off = losses.Adversary(weight=lambda step: 0.0)
  step, state = _make(reconstruction=parts, adversary=off, **options)
  new, metrics = jax.jit(step)(state, _batch())
  # The question counts for G as the objective does.
  assert not _differ(new.g, state.g) and float(metrics["g/loss"]) == 0
  assert _differ(new.d["Dense_1"], state.d["Dense_1"])
  moved = _batch()
  moved["given"]["label"] = (moved["given"]["label"] + 1) % 3
  other, _ = jax.jit(step)(state, moved)
  assert _differ(new.d["Dense_1"], other.d["Dense_1"])


def test_progress_and_keys_are_the_networks_to_read():
  step, state = _make(
    generator=_Encoder(),
    discriminator=_Asking(),
    total=10,
    reconstruction=_weighed(kl=0.0, rate=1.0, label=0.0),
  )
  step = jax.jit(step)
  rate = lambda s: float(step(s, _batch())[1]["g/rate"])
  early, late = state, state.replace(step=jnp.int32(10))
  # At the end there is no noise of `keys` in it, one unit of variance less.
  assert 2 < rate(early) - rate(late) < 8
  assert rate(late.replace(key=jax.random.key(9))) != rate(late)


@pytest.mark.parametrize(
  "generator, weights, error, words",
  [
    (_Encoder(), dict(kl=1, rate=1), errors.UserError, "loss 'label'.*'kl'"),
    (_Encoder(), dict(kl=1, label=1), errors.UserError, "loss 'rate'.*'label'"),
    (_Encoder(cost="kll"), dict(kl=1, rate=1, label=1), errors.UserError,
     "_Encoder makes the loss 'kll'"),
    (_Encoder(), dict(kl=1, rate=1, label=1, labels=1), errors.UserError,
     "reconstruction.labels: .*mean 'label'"),
    (_Encoder(rows=True), dict(kl=1, rate=1, label=1), ValueError,
     r"'kl' of shape \(8, 4\); it must be \(B,\)"),
  ],
)  # fmt: skip
def test_losses_that_nobody_weighs_or_makes(generator, weights, error, words):
  step, state = _make(
    generator=generator,
    discriminator=_Asking(),
    reconstruction=_weighed(**weights),
  )
  with pytest.raises(error, match=words):
    jax.eval_shape(step, state, _batch())


def test_gradients_are_an_argument():
  """As for gradients that are clipped clip by clip and made noisy."""

  def halved(loss_fn, params, state, batch, keys, **options):
    grads, metrics = step_lib.mean_gradients(
      loss_fn, params, state, batch, keys, **options
    )
    return jax.tree.map(lambda x: x / 2, grads), metrics

  _, state = _make()
  steps = [
    step_lib.make_step(_method(), g_tx=tx, d_tx=tx, gradients=gradients)
    for tx, gradients in (
      (optax.sgd(0.2), halved),
      (optax.sgd(0.1), step_lib.mean_gradients),
    )
  ]
  (one, _), (two, _) = (jax.jit(s)(state, _batch()) for s in steps)
  _close((one.d, one.g), (two.d, two.g))
