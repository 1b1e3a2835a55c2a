import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidgan_jax.models import patch


def _normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -------------------------------------------------------------- spectral norm


@pytest.mark.parametrize(
  "shape", [(3, 3, 8, 16), (3, 3, 60, 32), (1, 1, 4, 40), (3, 3, 5, 1)]
)
def test_spectral_norm_is_numpys(shape):
  norm = jax.jit(patch.spectral_norm)
  for seed in range(3):
    kernel = _normal(*shape, seed=seed)
    want = np.linalg.svd(kernel.reshape(-1, shape[-1]), compute_uv=False)[0]
    value = norm(kernel)
    assert 0.99 * want < value < 1.0001 * want
    np.testing.assert_allclose(norm(1e-4 * kernel), 1e-4 * value, rtol=1e-4)
  assert norm(np.zeros(shape, np.float32)) == 0


def test_the_gradient_of_the_spectral_norm():
  """With one singular value far above the others: u v'."""
  kernel = _normal(3, 3, 4, 6)
  u, s, v = np.linalg.svd(kernel.reshape(-1, 6), full_matrices=False)
  s[0] *= 3
  kernel = (u * s @ v).reshape(kernel.shape)
  slope = jax.jit(jax.grad(patch.spectral_norm))(kernel)
  want = np.outer(u[:, 0], v[0]).reshape(kernel.shape)
  np.testing.assert_allclose(slope, want, atol=1e-3)


def test_a_layer_does_not_know_the_scale_of_its_kernel():
  conv = patch.SpectralConv(6)
  x = _normal(2, 5, 5, 4)
  params = conv.init(jax.random.key(0), x)["params"]
  assert set(params) == {"kernel", "bias"}
  apply = jax.jit(lambda p: conv.apply({"params": p}, x))
  large = params | {"kernel": 10 * params["kernel"]}
  np.testing.assert_allclose(apply(large), apply(params), rtol=1e-3, atol=1e-4)
  # A 1 x 1 kernel of norm one never makes a pixel longer.
  conv = patch.SpectralConv(6, size=1)
  params = conv.init(jax.random.key(0), x)
  length = lambda y: np.linalg.norm(y, axis=-1)
  assert (length(conv.apply(params, x)) <= 1.01 * length(x)).all()


# ----------------------------------------------------------------------- heads

B, T, S = 2, 5, 16


def _scores(name, video, condition=None, **fields):
  head = patch.HEADS[name](width=4, levels=2, **fields)
  params = jax.jit(head.init)(jax.random.key(0), video, condition)
  assert set(params) == {"params"}
  apply = jax.jit(lambda v, c: head.apply(params, v, c))
  return apply(video, condition), apply


@pytest.mark.parametrize(
  "name, counts, features",
  [
    ("triplet", [3 * 16], [B * 3]),
    ("temporal", [5 * 16], [B * 5]),
    ("frame", [5 * 16, 5 * 4], [B * 5, B * 5]),
  ],
)
def test_heads(name, counts, features):
  video = _normal(B, T, S, S, 3)
  scores, apply = _scores(name, video)
  assert [x.shape for x in scores.logits] == [(B, n) for n in counts]
  assert all(x.dtype == jnp.float32 for x in scores.logits)
  for layers, n in zip(scores.features, features):
    assert [len(x) for x in layers] == [n, n]
  # Clips are apart.
  other = video.copy()
  other[1] += 1
  for a, b in zip(apply(other, None).logits, scores.logits):
    np.testing.assert_allclose(a[0], b[0], atol=1e-5)
    assert abs(a[1] - b[1]).max() > 1e-3


def test_who_sees_the_order_of_frames():
  video = _normal(B, 3, S, S, 3)
  shuffled = video[:, [0, 2, 1]]
  for name, sees in (("triplet", True), ("temporal", True), ("frame", False)):
    scores, apply = _scores(name, video)
    before = np.asarray(scores.logits[0])
    after = np.asarray(apply(shuffled, None).logits[0])
    if not sees:
      before, after = np.sort(before), np.sort(after)
    assert (abs(after - before).max() > 1e-3) == sees, name


def test_short_clips_are_filled_up():
  video = _normal(B, 2, S, S, 3)
  scores, apply = _scores("triplet", video)
  full = np.concatenate([video, video[:, -1:]], 1)
  np.testing.assert_allclose(
    scores.logits[0], apply(full, None).logits[0], atol=1e-5
  )


@pytest.mark.parametrize("name", patch.HEADS)
def test_the_condition_is_seen_at_any_size(name):
  video = _normal(B, T, S, S, 3)
  for size in (S, S // 4):
    condition = _normal(B, T, size, size, 3, seed=1)
    scores, apply = _scores(name, video, condition)
    moved = apply(video, condition + 1)
    for a, b in zip(scores.logits, moved.logits):
      assert abs(a - b).max() > 1e-3


def test_errors():
  video = np.zeros((1, 3, 12, 10, 3), np.float32)
  head = patch.Triplet(levels=2)
  with pytest.raises(ValueError, match=r"multiples of 4; the clip has 12 x 10"):
    jax.eval_shape(head.init, jax.random.key(0), video, None)
  small = np.zeros((1, 3, 7, 5, 3), np.float32)
  with pytest.raises(ValueError, match="same multiple"):
    jax.eval_shape(head.init, jax.random.key(0), video, small)


def test_a_segmenter_learns_rare_classes():
  """Three classes by their colours, the last in one pixel of a hundred."""
  rng = np.random.default_rng(0)
  number = np.digitize(rng.random((4, 2, 8, 8)), [0.5, 0.98])
  video = rng.normal(size=(3, 3))[number].astype(np.float32)
  map_ = np.eye(3, dtype=np.float32)[number]
  head = patch.Segment(width=8, levels=1)
  params = head.init(jax.random.key(0), video, map_)
  tx = optax.adam(0.02)

  @jax.jit
  def step(params, opt):
    loss = lambda p: head.apply(p, video, map_).mean()
    value, slope = jax.value_and_grad(loss)(params)
    change, opt = tx.update(slope, opt)
    return optax.apply_updates(params, change), opt, value

  opt, values = tx.init(params), []
  for _ in range(60):
    params, opt, value = step(params, opt)
    values.append(float(value))
  # Each class counts a third: none left out.
  assert values[0] > 0.5 and values[-1] < 0.15
  losses = head.apply(params, video, map_)
  assert losses.shape == (4,) and losses.dtype == jnp.float32
  void = head.apply(
    params, video, map_ * (np.arange(4) > 0)[:, None, None, None, None]
  )
  assert void[0] == 0 and (void[1:] > 0).all()
