"""Each loss against plain NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.losses import reconstruction as rec
from vidgan_jax.models import layers

B, T, H, W, C = 3, 4, 6, 8, 3


def _uniform(seed, *shape):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture
def fake():
  return _uniform(0, B, T, H, W, C)


@pytest.fixture
def batch():
  weight = (_uniform(2, B, T, H, W, 1) > 0).astype(np.float32)
  weight[0, 1] = 0.5
  return {
    "target": _uniform(1, B, T, H, W, C),
    "weight": weight,
    "given": {"video": _uniform(3, B, T, H, W, C), "label": np.arange(B)},
    "times": np.tile(np.float32([0, 0.1, 0.3, 0.4]), (B, 1)),
    "flow": 2 * _uniform(4, B, T - 1, H, W, 2),
  }


def _weighted(error, weight):
  total = (error * weight).sum((1, 2, 3, 4))
  return total / (weight.sum((1, 2, 3, 4)) * C)


def _check(name, fake, batch, want, extras=None, **options):
  fn = lambda f, b: getattr(rec, name)(f, b, extras or rec.Extras(), **options)
  value = jax.jit(fn)(fake, batch)
  assert (value.shape, value.dtype) == ((B,), jnp.float32)
  np.testing.assert_allclose(value, want, rtol=2e-5)
  half = jax.jit(fn)(jnp.asarray(fake, jnp.bfloat16), batch)
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, want, rtol=0.05)


def _without(batch, *names):
  return {k: x for k, x in batch.items() if k not in names}


def test_charbonnier_and_l1(fake, batch):
  gap = fake.astype(np.float64) - batch["target"]
  smooth = np.sqrt(gap**2 + 0.1**2)
  _check("charbonnier", fake, batch, _weighted(smooth, batch["weight"]),
         epsilon=0.1)  # fmt: skip
  _check("l1", fake, batch, _weighted(abs(gap), batch["weight"]))
  plain = _without(batch, "weight")
  _check("l1", fake, plain, abs(gap).mean((1, 2, 3, 4)))


def test_what_does_not_count_has_no_gradient(fake, batch):
  none = batch | {"weight": 0 * batch["weight"]}
  for name in ("charbonnier", "l1", "temporal_difference", "flow_warp", "fft"):
    fn = lambda f, b, n=name: getattr(rec, n)(f, b, rec.Extras()).sum()
    value, slope = jax.jit(jax.value_and_grad(fn))(fake, none)
    assert value == 0 and not slope.any(), name


def test_temporal_difference(fake, batch):
  gap = np.diff(fake.astype(np.float64), axis=1) - np.diff(
    batch["target"].astype(np.float64), axis=1
  )
  weight = np.maximum(batch["weight"][:, 1:], batch["weight"][:, :-1])
  _check("temporal_difference", fake, batch, _weighted(abs(gap), weight))
  # An error that stands still costs nothing.
  still = batch["target"] + 0.3
  value = rec.temporal_difference(still, batch, rec.Extras())
  np.testing.assert_allclose(value, 0, atol=1e-6)
  one = {"target": fake[:, :1]}
  assert not rec.temporal_difference(still[:, :1], one, rec.Extras()).any()


def test_ping_pong(fake, batch):
  weights = np.float32([0.1, 0.2, 0.3, 0.4])[None, :, None, None, None]

  def generate(given, times):
    # Sees order, times, label and the first of as many words as frames.
    time = times[:, :, None, None, None]
    of_clip = given["label"] + given["text_vectors"][:, 0, 0]
    return weights * given["video"] + time + of_clip[:, None, None, None, None]

  words = {"text_vectors": _uniform(5, B, T, 2)}
  batch = batch | {"given": batch["given"] | words}
  given, times = batch["given"], batch["times"]
  reversed_times = times[:, -1:] - times[:, ::-1]
  assert reversed_times[0, 0] == 0 and np.all(np.diff(reversed_times) > 0)
  turned = given | {"video": given["video"][:, ::-1]}
  back = generate(turned, reversed_times)[:, ::-1].astype(np.float64)
  want = _weighted(abs(fake - back), batch["weight"])
  _check("ping_pong", fake, batch, want, rec.Extras(generate=generate))
  # A generator without direction in time has nothing to pay.
  same = lambda given, times: jnp.asarray(given["video"]) * 2
  value = rec.ping_pong(2 * given["video"], batch, rec.Extras(generate=same))
  assert not value.any()


def test_mode_seeking(fake, batch):
  z = {"z": _uniform(7, B, 3)}
  generate = lambda given, times: (
    given["video"]
    + 0.1
    * z["z"][:, :1, None, None, None]
    * (1 + given["label"][:, None, None, None, None])
  )
  clips = generate(batch["given"], batch["times"])
  value = rec.mode_seeking(
    clips, batch, rec.Extras(generate=generate, z=z), bound=9.0
  )
  noise = z["z"].astype(np.float64)
  other = np.roll(noise, -1, 0)
  change = 0.1 * abs(noise - other)[:, 0] * (1 + batch["given"]["label"])
  want = -change / abs(noise - other).mean(1)
  np.testing.assert_allclose(value, want, rtol=1e-4)
  value = rec.mode_seeking(
    clips, batch, rec.Extras(generate=generate, z=z), bound=1e-3
  )
  np.testing.assert_allclose(value, -1e-3)
  without = rec.mode_seeking(clips, batch, rec.Extras(generate=generate))
  assert not without.any()


def test_feature_matching(fake, batch):
  draw = lambda s: ((_uniform(s, B * T, 2, 2, 5), _uniform(s + 1, B * 2, 3)),
                    (_uniform(s + 2, B, 4),))  # fmt: skip
  one, two = draw(10), draw(20)
  extras = rec.Extras(real=layers.Scores((), two), fake=layers.Scores((), one))
  want = np.mean(
    [
      abs(a.astype(np.float64) - b).reshape(B, -1).mean(1)
      for f, r in zip(one, two)
      for a, b in zip(f, r)
    ],
    0,
  )
  _check("feature_matching", fake, batch, want, extras)

  def loss(f, r):
    extras = rec.Extras(real=layers.Scores((), r), fake=layers.Scores((), f))
    return rec.feature_matching(fake, batch, extras).sum()

  ours, theirs = jax.grad(loss, (0, 1))(one, two)
  assert all(x.any() for x in jax.tree.leaves(ours))
  assert not any(x.any() for x in jax.tree.leaves(theirs))


def _bilinear(picture, x, y):
  x, y = np.clip(x, 0, W - 1), np.clip(y, 0, H - 1)
  i, j = min(int(y), H - 2), min(int(x), W - 2)
  a, b = y - i, x - j
  return (
    (1 - a) * ((1 - b) * picture[i, j] + b * picture[i, j + 1])
    + a * ((1 - b) * picture[i + 1, j] + b * picture[i + 1, j + 1])
  )  # fmt: skip


def _pull(video, flow):
  out = np.zeros((B, T - 1, H, W, C))
  for b, t, i, j in np.ndindex(B, T - 1, H, W):
    dx, dy = flow[b, t, i, j].astype(np.float64)
    picture = video[b, t + 1].astype(np.float64)
    out[b, t, i, j] = _bilinear(picture, j + dx, i + dy)
  return out


def test_flow_warp(fake, batch):
  target = batch["target"]
  miss = ((target[:, :-1] - _pull(target, batch["flow"])) ** 2).sum(-1)
  weight = np.exp(-0.7 * miss)[..., None]
  error = abs(fake[:, :-1] - _pull(fake, batch["flow"]))
  want = _weighted(error, weight * batch["weight"][:, :-1])
  _check("flow_warp", fake, batch, want, sharpness=0.7)
  plain = _without(batch, "weight")
  _check("flow_warp", fake, plain, _weighted(error, weight), sharpness=0.7)


def test_flow_warp_of_true_motion_is_free(batch):
  """A picture that moves by one pixel along its flow."""
  wide = _uniform(5, B, 1, H, W + T, C)
  video = np.concatenate(
    [wide[:, :, :, T - t : T - t + W] for t in range(T)], 1
  )
  flow = np.zeros((B, T - 1, H, W, 2), np.float32)
  flow[..., 0] = 1
  batch = {"target": video, "flow": flow}
  # At the border, which leaves the picture, the target itself does not fit.
  assert (rec.flow_warp(video, batch, rec.Extras()) < 0.02).all()
  assert (rec.flow_warp(video[:, ::-1], batch, rec.Extras()) > 0.2).all()


def test_fft(fake, batch):
  gap = (fake.astype(np.float64) - batch["target"]) * batch["weight"]
  waves = np.fft.rfft2(gap, axes=(2, 3)) / np.sqrt(H * W)
  want = (abs(waves.real) + abs(waves.imag)).mean((1, 2, 3, 4)) / 2
  _check("fft", fake, batch, want)


# ----------------------------------------------------------------- perceptual

TAPS = ("conv1_2", "conv2_1")


@pytest.fixture
def weights(tmp_path):
  arrays, last = {}, 3
  for i, (name, width) in enumerate(
    [("conv1_1", 4), ("conv1_2", 5), ("conv2_1", 6), ("conv3_1", 7)]
  ):
    arrays[f"{name}/kernel"] = _uniform(30 + i, 3, 3, last, width)
    arrays[f"{name}/bias"] = _uniform(40 + i, width)
    last = width
  np.savez(tmp_path / "vgg.npz", **arrays)
  return str(tmp_path / "vgg.npz")


def _conv(x, kernel, bias):
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = bias.astype(np.float64)
  h, w = x.shape[1:3]
  for i, j in np.ndindex(3, 3):
    out = out + padded[:, i : i + h, j : j + w] @ kernel[i, j].astype(
      np.float64
    )
  return np.maximum(out, 0)


def test_perceptual(fake, batch, weights):
  net = np.load(weights)
  layer = lambda x, n: _conv(x, net[f"{n}/kernel"], net[f"{n}/bias"])

  def features(x):
    x = x.reshape(-1, H, W, C).astype(np.float64) / 2 + 0.5
    x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = layer(layer(x, "conv1_1"), "conv1_2")
    y = x.reshape(B * T, H // 2, 2, W // 2, 2, -1).max((2, 4))
    return [x, layer(y, "conv2_1")]

  target = batch["target"]
  mixed = target + batch["weight"].astype(np.float64) * (fake - target)
  want = np.mean(
    [
      abs(a - b).reshape(B, -1).mean(1)
      for a, b in zip(features(mixed), features(target))
    ],
    0,
  )
  _check("perceptual", fake, batch, want, weights=weights, taps=TAPS)


def test_perceptual_without_weights(fake, batch, tmp_path, weights):
  call = lambda **o: rec.perceptual(fake, batch, rec.Extras(), **o)
  with pytest.raises(ValueError, match="`weights`, the path of an .npz file"):
    call()
  with pytest.raises(ValueError, match="nowhere.npz: cannot be read"):
    call(weights=str(tmp_path / "nowhere.npz"))
  with pytest.raises(ValueError, match="has no 'conv2_2/kernel'"):
    call(weights=weights)


# --------------------------------------------------------------------- errors


def test_what_is_missing(fake, batch):
  plain = _without(batch, "flow")
  with pytest.raises(
    ValueError, match="config.reconstruction.temporal_difference"
  ):
    rec.flow_warp(fake, plain, rec.Extras())
  # Before the adversary there are no features to match.
  assert not rec.feature_matching(fake, batch, rec.Extras()).any()
  empty = layers.Scores((), ((),))
  with pytest.raises(ValueError, match="that returns them, or drop the loss"):
    rec.feature_matching(fake, batch, rec.Extras(real=empty, fake=empty))
