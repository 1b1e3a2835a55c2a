"""The models mlp and dcgan3d: contract, purity, equalities, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidgan_jax.losses import nonsaturating
from vidgan_jax.losses import penalties
from vidgan_jax.models import dcgan3d
from vidgan_jax.models import layers
from vidgan_jax.models import mlp

SMALL = {
  "mlp": (mlp, {"widths": (16, 24)}, {"widths": (24, 16)}),
  "dcgan3d": (dcgan3d, {"width": 4}, {"width": 4}),
  "two_stream": (dcgan3d, {"width": 4, "two_stream": True}, {"width": 4}),
}
MODELS = sorted(SMALL)


class Case:
  """A small pair, its parameters and one batch of everything."""

  def __init__(
    self, name, resolution=8, frames=4, batch=3, num_classes=0, **shared
  ):
    module, g_fields, d_fields = SMALL[name]
    shared |= {
      "resolution": resolution,
      "frames": frames,
      "num_classes": num_classes,
    }
    self.g = module.Generator(**shared, **g_fields)
    self.d = module.Discriminator(**shared, **d_fields)
    rng = np.random.default_rng(0)
    normal = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    spec = self.g.noise_spec(1.0)
    self.z = {key: normal((batch, *shape)) for key, shape in spec.items()}
    self.given = {}
    if num_classes:
      self.given = {"label": jnp.arange(batch) % num_classes}
    self.times = jnp.tile(jnp.arange(frames) / 8.0, (batch, 1))
    self.video = jnp.tanh(
      normal((batch, frames, resolution, resolution, self.g.channels))
    )
    self.g_vars = _fill(self.g.init, self.given, self.z, self.times)
    self.d_vars = _fill(self.d.init, self.video, self.given, self.times)
    self._draw, self._score = jax.jit(self.g.apply), jax.jit(self.d.apply)

  def draw(self, given=None, z=None, times=None, variables=None):
    given, z = given or self.given, z or self.z
    times = self.times if times is None else times
    return np.asarray(self._draw(variables or self.g_vars, given, z, times))

  def score(self, video=None, given=None):
    video = self.video if video is None else video
    times = self.times[: len(video)]
    return self._score(self.d_vars, video, given or self.given, times)


def _fill(init, *args):
  """Parameters as `init` makes them, without the time that it compiles."""
  shapes = jax.eval_shape(init, jax.random.key(0), *args)
  rng = np.random.default_rng(1)

  def fill(shape):
    fan_in = np.prod(shape.shape[:-1]) if len(shape.shape) > 1 else 100
    value = rng.normal(size=shape.shape) / np.sqrt(fan_in)
    return jnp.asarray(value, shape.dtype)

  return jax.tree.map(fill, shapes)


@functools.cache
def make(name, **fields):
  return Case(name, **fields)


def all_float32(tree):
  return all(x.dtype == jnp.float32 for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes,channels", [(3, 3), (0, 1)])
def test_contract(name, classes, channels):
  case = make(name, num_classes=classes, channels=channels)
  # Parameters are all there is.
  assert set(case.g_vars) == set(case.d_vars) == {"params"}
  assert all_float32((case.g_vars, case.d_vars))
  fake = case.draw()
  assert fake.shape == case.video.shape and fake.dtype == np.float32
  assert np.abs(fake).max() <= 1 and np.std(fake) > 0.05
  scores = case.score()
  assert isinstance(scores, layers.Scores)
  assert [x.shape for x in scores.logits] == [(3,)]
  assert len(scores.features) == 1 and len(scores.features[0]) > 1
  assert all_float32(scores)
  assert all(len(x) == 3 for x in jax.tree.leaves(scores))


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_depend_on_its_batch(name):
  case = make(name, num_classes=3)
  fake, logits = case.draw(), case.score().logits[0]
  # Other neighbours.
  change = lambda x: x.at[1:].set(9 if x.dtype == jnp.float32 else 0)
  given, z, video = jax.tree.map(change, (case.given, case.z, case.video))
  assert np.abs(case.draw(given, z)[1] - fake[1]).max() > 0.01
  np.testing.assert_allclose(case.draw(given, z)[0], fake[0], atol=1e-5)
  np.testing.assert_allclose(
    case.score(video, given).logits[0][0], logits[0], atol=1e-5
  )
  # None at all.
  given, z, video = jax.tree.map(
    lambda x: x[:1], (case.given, case.z, case.video)
  )
  np.testing.assert_allclose(
    case.draw(given, z, case.times[:1])[0], fake[0], atol=1e-5
  )
  np.testing.assert_allclose(
    case.score(video, given).logits[0], logits[:1], atol=1e-5
  )


@pytest.mark.parametrize("name", MODELS)
def test_class_and_noise_matter_and_times_do_not(name):
  case = make(name, num_classes=3)
  turned = {"label": (case.given["label"] + 1) % 3}
  base, logits = case.draw(), case.score().logits[0]
  assert np.abs(case.draw(turned) - base).max() > 0.01
  assert np.abs(case.draw(z={"z": -case.z["z"]}) - base).max() > 0.01
  assert np.abs(case.score(given=turned).logits[0] - logits).min() > 1e-3
  np.testing.assert_array_equal(case.draw(times=3 * case.times + 1), base)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_compute(name):
  exact = make(name, num_classes=3)
  coarse = make(name, num_classes=3, dtype=jnp.bfloat16)
  assert all_float32((coarse.g_vars, coarse.d_vars))
  assert coarse.draw().dtype == np.float32
  np.testing.assert_allclose(coarse.draw(), exact.draw(), atol=0.1)
  assert not np.array_equal(coarse.draw(), exact.draw())
  assert all_float32(coarse.score())
  got, want = coarse.score().logits[0], exact.score().logits[0]
  np.testing.assert_allclose(got, want, atol=0.1)
  assert not np.array_equal(got, want)


@pytest.mark.parametrize("name", MODELS)
def test_wrong_sizes(name):
  case = make(name, num_classes=3)
  with pytest.raises(ValueError, match=r"times of shape \(3,\).*\(4,\)"):
    case.draw(times=case.times[:, :3])
  for video in (case.video[:, :3], case.video[:, :, :4]):
    with pytest.raises(ValueError, match=r"a clip of shape .*config\.model"):
      case.score(video)


@pytest.mark.parametrize("resolution", [0, 2, 12, 24])
def test_dcgan3d_resolution(resolution):
  with pytest.raises(ValueError, match=f"resolution is {resolution}, but"):
    Case("dcgan3d", resolution=resolution)


@pytest.mark.parametrize(
  "resolution,frames", [(4, 4), (8, 1), (8, 5), (16, 8), (64, 12)]
)
def test_dcgan3d_sizes(resolution, frames):
  case = Case("two_stream", resolution=resolution, frames=frames, batch=1)
  shape = jax.eval_shape(case.g.apply, case.g_vars, {}, case.z, case.times)
  assert shape.shape == case.video.shape
  jax.eval_shape(case.d.apply, case.d_vars, case.video, {}, case.times)


def test_variants_are_as_large_as_they_say():
  def millions(module, variant, resolution, frames):
    found = []
    times = jnp.zeros((1, frames))
    for role in ("generator", "discriminator"):
      model = getattr(module, role.capitalize())(
        resolution=resolution,
        frames=frames,
        **module.VARIANTS[variant][role],
      )
      video = jnp.zeros((1, frames, resolution, resolution, 3))
      z = {"z": jnp.zeros((1, 100))}
      args = ({}, z, times) if role == "generator" else (video, {}, times)
      shapes = jax.eval_shape(model.init, jax.random.key(0), *args)
      found.append(sum(x.size for x in jax.tree.leaves(shapes)) / 1e6)
    return np.round(found, 1).tolist()

  assert millions(dcgan3d, "S", 32, 16) == [0.7, 0.3]
  assert millions(dcgan3d, "B", 64, 16) == [5.6, 4.7]
  assert millions(mlp, "S", 32, 1) == [3.8, 3.8]


@pytest.mark.parametrize("frames,t", [(1, 4), (3, 4), (3, 1), (5, 3)])
def test_conv3d_equals_the_convolution_of_xla(frames, t):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, t, 6, 5, 3)), jnp.float32)
  module = dcgan3d.Conv3D(4, frames)
  variables = _fill(module.init, x)

  def ours(variables, x):
    return module.apply(variables, x)

  def reference(variables, x):
    y = jax.lax.conv_general_dilated(
      x,
      variables["params"]["kernel"],
      (1, 1, 1),
      "SAME",
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
      precision="highest",
    )
    return y + variables["params"]["bias"]

  def with_gradients(fn):
    def total(variables, x):
      y = fn(variables, x)
      return jnp.sum(jnp.sin(y)), y

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    with_gradients(ours)(variables, x),
    with_gradients(reference)(variables, x),
  )


def test_two_stream_lays_the_foreground_over_a_still_background():
  case = make("two_stream", num_classes=3)

  def with_mask(bias):
    params = dict(case.g_vars["params"])
    params["mask"] = {
      "kernel": jnp.zeros_like(params["mask"]["kernel"]),
      "bias": jnp.full_like(params["mask"]["bias"], bias),
    }
    return case.draw(variables={"params": params})

  behind, front, half = with_mask(-50.0), with_mask(50.0), with_mask(0.0)
  np.testing.assert_array_equal(behind, np.repeat(behind[:, :1], 4, 1))
  assert np.abs(np.diff(front, axis=1)).max() > 0.01
  np.testing.assert_allclose(half, (behind + front) / 2, atol=1e-6)
  # The foreground alone is the generator of one stream.
  params = dict(case.g_vars["params"])
  for name in ("background", "still", "mask"):
    del params[name]
  single = make("dcgan3d", num_classes=3)
  np.testing.assert_allclose(
    front, single.draw(variables={"params": params}), atol=1e-5
  )


@pytest.mark.parametrize("name", ["mlp", "dcgan3d"])
def test_learns_two_colours(name):
  """From grey to clips of one plain colour out of two."""
  module, batch, frames = SMALL[name][0], 32, 4
  shared = {"resolution": 8, "frames": frames}
  if name == "mlp":
    g = module.Generator(**shared, widths=(64, 128))
    d = module.Discriminator(**shared, widths=(128, 64))
  else:
    g = module.Generator(**shared, width=16)
    d = module.Discriminator(**shared, width=16)
  colours = jnp.array([[0.8, -0.6, -0.4], [0.8, 0.6, -0.4]])
  times = jnp.zeros((batch, frames))
  draw = lambda key: {"z": jax.random.normal(key, (batch, 100))}
  generate = lambda params, key: g.apply(
    {"params": params}, {}, draw(key), times
  )
  jitted = jax.jit(generate)
  judge = lambda params, video: d.apply({"params": params}, video, {}, times)
  tx = optax.adam(1e-3, b1=0.0, b2=0.99)

  @jax.jit
  def start(key):
    video = jnp.zeros((batch, frames, 8, 8, 3))
    g_params = g.init(key, {}, draw(key), times)["params"]
    d_params = d.init(key, video, {}, times)["params"]
    return g_params, d_params, tx.init(g_params), tx.init(d_params)

  def step(state, key):
    g_params, d_params, g_opt, d_opt = state
    keys = jax.random.split(key, 3)
    which = jax.random.bernoulli(keys[0], shape=(batch,)).astype(int)
    real = jnp.broadcast_to(
      colours[which][:, None, None, None], (batch, frames, 8, 8, 3)
    )

    def d_loss(params):
      fake = generate(g_params, keys[1])
      score = lambda video: judge(params, video).logits[0]
      slope = penalties.r1(score, real, fake, None)
      loss = nonsaturating.d_loss(score(real), score(fake))
      return loss + 0.05 * jnp.mean(slope)

    def g_loss(params):
      fake = generate(params, keys[2])
      score = lambda video: judge(d_params, video).logits[0]
      return nonsaturating.g_loss(score(real), score(fake))

    updates, d_opt = tx.update(jax.grad(d_loss)(d_params), d_opt)
    d_params = optax.apply_updates(d_params, updates)
    updates, g_opt = tx.update(jax.grad(g_loss)(g_params), g_opt)
    g_params = optax.apply_updates(g_params, updates)
    return g_params, d_params, g_opt, d_opt

  def look(state):
    """Distance of pixels to the nearer colour; share of the second colour."""
    video = np.asarray(jitted(state[0], jax.random.key(9)))
    gap = np.abs(video[..., None, :] - colours).mean((1, 2, 3, 5))
    return gap.min(1).mean(), (gap[:, 1] < gap[:, 0]).mean()

  # This kind of key compiles sooner.
  state = start(jax.random.key(0, impl="rbg"))
  before, _ = look(state)
  # No lax.scan: XLA's convolutions are many times slower in a loop on a CPU.
  step = jax.jit(step)
  shares = []
  for i, key in enumerate(jax.random.split(jax.random.key(1), 80)):
    state = step(state, key)
    if i >= 60 and i % 5 == 4:
      after, share = look(state)
      shares.append(share)
  assert after < 0.6 * before, (before, after)
  # The MLP needs longer to find the second colour.
  if name == "dcgan3d":
    assert 0.1 < np.mean(shares) < 0.9, shares
