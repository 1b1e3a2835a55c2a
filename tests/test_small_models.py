"""The models mlp and dcgan3d: contract, purity, equalities, learning."""

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


def build(name, resolution=8, frames=4, batch=3, num_classes=0, **shared):
  """-> generator, discriminator, their variables, given, z, times, video."""
  module, g_fields, d_fields = SMALL[name]
  shared |= {
    "resolution": resolution,
    "frames": frames,
    "num_classes": num_classes,
  }
  g = module.Generator(**shared, **g_fields)
  d = module.Discriminator(**shared, **d_fields)
  rng = np.random.default_rng(0)
  z = {
    key: jnp.asarray(rng.normal(size=(batch, *shape)), jnp.float32)
    for key, shape in g.noise_spec(1.0).items()
  }
  given = {"label": jnp.arange(batch) % num_classes} if num_classes else {}
  times = jnp.tile(jnp.arange(frames) / 8.0, (batch, 1))
  shape = (batch, frames, resolution, resolution, g.channels)
  video = jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)
  g_vars = jax.jit(g.init)(jax.random.key(0), given, z, times)
  d_vars = jax.jit(d.init)(jax.random.key(1), video, given, times)
  return g, d, g_vars, d_vars, given, z, times, video


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
  "shared", [{}, {"num_classes": 3}, {"channels": 1, "frames": 1}]
)
def test_contract(name, shared):
  g, d, g_vars, d_vars, given, z, times, video = build(name, **shared)
  # Parameters are all there is, and they are float32.
  assert set(g_vars) == set(d_vars) == {"params"}
  assert all(
    x.dtype == jnp.float32 for x in jax.tree.leaves((g_vars, d_vars))
  )
  fake = g.apply(g_vars, given, z, times)
  assert fake.shape == video.shape and fake.dtype == jnp.float32
  assert np.abs(fake).max() <= 1 and np.std(fake) > 0.05
  scores = d.apply(d_vars, video, given, times)
  assert isinstance(scores, layers.Scores)
  assert [x.shape for x in scores.logits] == [(3,)]
  assert len(scores.features) == 1 and len(scores.features[0]) > 1
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(scores))
  assert all(len(x) == 3 for x in jax.tree.leaves(scores))


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_depend_on_its_batch(name):
  g, d, g_vars, d_vars, given, z, times, video = build(name, num_classes=3)
  first = lambda tree: jax.tree.map(lambda x: x[:1], tree)
  other = lambda x: x.at[1:].set(9.0 if x.dtype == jnp.float32 else 0)
  for change in (first, lambda tree: jax.tree.map(other, tree)):
    np.testing.assert_allclose(
      g.apply(g_vars, change(given), change(z), change(times))[0],
      g.apply(g_vars, given, z, times)[0],
      atol=1e-5,
    )
    np.testing.assert_allclose(
      d.apply(d_vars, change(video), change(given), change(times)).logits[0][0],
      d.apply(d_vars, video, given, times).logits[0][0],
      atol=1e-5,
    )


@pytest.mark.parametrize("name", MODELS)
def test_class_and_noise_matter(name):
  g, d, g_vars, d_vars, given, z, times, video = build(name, num_classes=3)
  turned = {"label": (given["label"] + 1) % 3}
  base = g.apply(g_vars, given, z, times)
  assert np.abs(g.apply(g_vars, turned, z, times) - base).max() > 0.01
  other = {k: -v for k, v in z.items()}
  assert np.abs(g.apply(g_vars, given, other, times) - base).max() > 0.01
  logits = lambda label: d.apply(d_vars, video, label, times).logits[0]
  assert np.abs(logits(turned) - logits(given)).min() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_compute(name):
  g, d, g_vars, d_vars, given, z, times, video = build(name, num_classes=3)
  half = build(name, num_classes=3, dtype=jnp.bfloat16)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(half[2:4]))
  exact = g.apply(g_vars, given, z, times)
  coarse = half[0].apply(g_vars, given, z, times)
  assert coarse.dtype == jnp.float32
  np.testing.assert_allclose(coarse, exact, atol=0.06)
  assert not np.array_equal(coarse, exact)
  exact = d.apply(d_vars, video, given, times)
  coarse = half[1].apply(d_vars, video, given, times)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(coarse))
  np.testing.assert_allclose(coarse.logits[0], exact.logits[0], atol=0.1)
  assert not np.array_equal(coarse.logits[0], exact.logits[0])


@pytest.mark.parametrize("name", MODELS)
def test_times_only_count(name):
  g, _, g_vars, _, given, z, times, _ = build(name)
  np.testing.assert_array_equal(
    g.apply(g_vars, given, z, 3 * times + 1), g.apply(g_vars, given, z, times)
  )


@pytest.mark.parametrize("name", MODELS)
def test_wrong_sizes(name):
  g, d, g_vars, d_vars, given, z, times, video = build(name)
  with pytest.raises(ValueError, match=r"times of shape \(3,\).*\(4,\)"):
    g.apply(g_vars, given, z, times[:, :3])
  with pytest.raises(ValueError, match=r"a clip of shape .*config\.model"):
    d.apply(d_vars, video[:, :3], given, times[:, :3])
  with pytest.raises(ValueError, match=r"a clip of shape .*config\.model"):
    d.apply(d_vars, video[:, :, :4], given, times)


@pytest.mark.parametrize("resolution", [0, 2, 12, 24])
def test_dcgan3d_resolution(resolution):
  with pytest.raises(ValueError, match=f"resolution is {resolution}, but"):
    build("dcgan3d", resolution=resolution)


@pytest.mark.parametrize(
  "resolution,frames", [(4, 4), (8, 1), (8, 5), (16, 8), (32, 4)]
)
def test_dcgan3d_sizes(resolution, frames):
  for name in ("dcgan3d", "two_stream"):
    g, d, g_vars, d_vars, given, z, times, video = build(
      name, resolution=resolution, frames=frames, batch=1
    )
    assert g.apply(g_vars, given, z, times).shape == video.shape
    assert d.apply(d_vars, video, given, times).logits[0].shape == (1,)


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


@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize("t", [1, 4])
def test_conv3d_equals_the_convolution_of_xla(frames, t):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, t, 6, 5, 3)), jnp.float32)
  module = dcgan3d.Conv3D(4, frames)
  variables = module.init(jax.random.key(0), x)
  bias = jnp.asarray(rng.normal(size=4), jnp.float32)
  variables = {"params": variables["params"] | {"bias": bias}}

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

  np.testing.assert_allclose(
    ours(variables, x), reference(variables, x), rtol=1e-5, atol=1e-5
  )
  grads = [
    jax.grad(lambda v, x, fn=fn: jnp.sum(jnp.sin(fn(v, x))), (0, 1))(
      variables, x
    )
    for fn in (ours, reference)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    *grads,
  )


def test_two_stream_lays_the_foreground_over_a_still_background():
  g, _, g_vars, _, given, z, times, _ = build("two_stream")

  def with_mask(bias):
    params = dict(g_vars["params"])
    params["mask"] = {
      "kernel": jnp.zeros_like(params["mask"]["kernel"]),
      "bias": jnp.full_like(params["mask"]["bias"], bias),
    }
    return np.asarray(g.apply({"params": params}, given, z, times))

  behind, front, half = with_mask(-50.0), with_mask(50.0), with_mask(0.0)
  np.testing.assert_array_equal(behind, np.repeat(behind[:, :1], 4, 1))
  assert np.abs(np.diff(front, axis=1)).max() > 0.01
  np.testing.assert_allclose(half, (behind + front) / 2, atol=1e-6)
  # The foreground alone is the generator of one stream.
  single = build("dcgan3d")[0]
  params = {k: g_vars["params"][k] for k in ("foreground", "pixels")}
  np.testing.assert_allclose(
    front, single.apply({"params": params}, given, z, times), atol=1e-6
  )


@pytest.mark.parametrize("name", ["mlp", "dcgan3d"])
def test_learns_two_colours(name):
  """Clips of one plain colour out of two: finds both, from grey."""
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
      loss = nonsaturating.d_loss(judge(params, real), judge(params, fake))
      return loss + 0.05 * jnp.mean(slope)

    def g_loss(params):
      fake = generate(params, keys[2])
      return nonsaturating.g_loss(judge(d_params, real), judge(d_params, fake))

    updates, d_opt = tx.update(jax.grad(d_loss)(d_params), d_opt)
    d_params = optax.apply_updates(d_params, updates)
    updates, g_opt = tx.update(jax.grad(g_loss)(g_params), g_opt)
    g_params = optax.apply_updates(g_params, updates)
    return (g_params, d_params, g_opt, d_opt), None

  def look(state):
    """Distance of pixels to the nearer colour; share of the second colour."""
    video = np.asarray(generate(state[0], jax.random.key(9)))
    gap = np.abs(video[..., None, :] - colours).mean((1, 2, 3, 5))
    return gap.min(1).mean(), (gap[:, 1] < gap[:, 0]).mean()

  state = start(jax.random.key(0))
  before, _ = look(state)
  keys = jax.random.split(jax.random.key(1), 100)
  state, _ = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(state, keys)
  after, share = look(state)
  assert after < 0.5 * before, (before, after)
  assert 0.1 < share < 0.9, share
