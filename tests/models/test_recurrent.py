import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from vidgan_jax.models import bases
from vidgan_jax.models import layers
from vidgan_jax.models import recurrent

B, T, H, W = 2, 5, 8, 12
KINDS = {
  "denoise": dict(vector_dim=1, patch=2),
  "super_resolve": dict(base="lanczos", scale=2, patch=1),
}


@functools.cache
def _make(kind):
  rng = np.random.default_rng(0)
  uniform = lambda *s: rng.uniform(-1, 1, s).astype(np.float32)
  g = recurrent.Generator(width=4, blocks=1, flow_width=4, **KINDS[kind])
  given = {"video": uniform(B, T, H, W, 3), "vector": uniform(B, T, 1)}
  times = np.tile(np.arange(T, dtype=np.float32) / 25, (B, 1))
  start = jax.jit(g.init)(jax.random.key(0), given, {}, times)["params"]
  leaves, tree = jax.tree.flatten(start)
  params = [x + 0.2 * uniform(*x.shape) for x in leaves]
  return g, start, jax.tree.unflatten(tree, params), given, times


@functools.partial(jax.jit, static_argnums=0)
def _run(g, params, given, times):
  return g.apply({"params": params}, given, {}, times)


def _apply(*args):
  return np.asarray(_run(*args))


# ----------------------------------------------------------------------- warp


def test_warp_is_scipys():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 7, 9, 3)).astype(np.float32)
  flow = rng.uniform(-4, 4, (2, 7, 9, 2)).astype(np.float32)
  out = jax.jit(layers.warp)(x, flow)
  rows, columns = np.mgrid[:7, :9]
  for n, c in np.ndindex(2, 3):
    where = rows + flow[n, ..., 1], columns + flow[n, ..., 0]
    want = ndimage.map_coordinates(x[n, ..., c], where, order=1, mode="nearest")
    np.testing.assert_allclose(out[n, ..., c], want, atol=1e-5)
  np.testing.assert_array_equal(layers.warp(x, 0 * flow), x)


# ------------------------------------------------------------------ generator


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_the_base(kind):
  g, start, params, given, times = _make(kind)
  base = jax.jit(lambda x: bases.BASES[g.base](x, times, g.scale))(given)
  np.testing.assert_array_equal(_apply(g, start, given, times), base)
  out = _apply(g, params, given, times)
  assert (out.shape, out.dtype) == (base.shape, np.float32)
  assert abs(out - base).mean() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gives_the_clip(kind):
  g, _, params, given, times = _make(kind)
  whole = _apply(g, params, given, times)
  step = jax.jit(lambda x, s, t: g.apply_step(params, x, s, {}, t))
  for portions in ([1, 1, 1, 1, 1], [3, 2]):
    state, parts, start = None, [], 0
    for n in portions:
      cut = {k: x[:, start : start + n] for k, x in given.items()}
      part, state = step(cut, state, times[:, start : start + n])
      parts.append(part)
      start += n
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def test_the_past_is_seen_and_the_future_is_not():
  g, _, params, given, times = _make("super_resolve")
  whole = _apply(g, params, given, times)
  video = given["video"].copy()
  video[:, 2] += 1
  out = _apply(g, params, given | {"video": video}, times)
  np.testing.assert_allclose(out[:, :2], whole[:, :2], atol=1e-6)
  for t in (2, 3, 4):
    assert abs(out[:, t] - whole[:, t]).max() > 1e-4
  assert g.halo == (bases.FOREVER, bases.FOREVER, 0)


def test_motion_is_bounded_and_learned():
  g, start, params, given, times = _make("super_resolve")
  net = recurrent.FlowNet(4, 2.5)
  now = 100 * given["video"][:, 0]
  flow = net.apply({"params": params["flow"]}, now, given["video"][:, 1])
  assert 1 < abs(flow).max() <= 2.5
  still = net.apply({"params": start["flow"]}, now, given["video"][:, 1])
  assert not still.any()
  loss = lambda p: jnp.square(g.apply({"params": p}, given, {}, times)).mean()
  slopes = jax.jit(jax.grad(loss))(params)
  assert all(x.any() for x in jax.tree.leaves(slopes["flow"]))


def test_a_picture_of_any_size():
  g, _, params, given, times = _make("denoise")
  cut = given | {"video": given["video"][:, :, :-1, :-1]}
  out = _apply(g, params, cut, times)
  assert out.shape == (B, T, H - 1, W - 1, 3)


def test_bases_that_look_at_other_frames_are_refused():
  g = recurrent.Generator(base="temporal")
  given = {
    "video": jnp.zeros((1, 2, 8, 8, 3)),
    "mask": jnp.ones((1, 2, 8, 8, 1)),
  }
  with pytest.raises(ValueError, match="to 'copy' or 'lanczos'"):
    jax.eval_shape(g.init, jax.random.key(0), given, {}, jnp.zeros((1, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_sees_no_further_than_its_margin(kind):
  """A change outside leaves the frame as it is, and one inside does not."""
  g, _, params, _, _ = _make(kind)
  size = 2 * g.margin + 5
  rng = np.random.default_rng(0)
  video = rng.uniform(-1, 1, (1, 2, 4, size, 3)).astype(np.float32)
  given = {"video": video, "vector": np.zeros((1, 2, 1), np.float32)}
  times = np.float32([[0, 0.04]])
  step = jax.jit(lambda x, s, t: g.apply_step(params, x, s, {}, t))
  first = {k: x[:, :1] for k, x in given.items()}
  _, state = step(first, None, times[:, :1])

  def last(change):
    # Both frames and the output before, up to column `change`.
    cut = lambda x, n: np.concatenate([-x[..., :n, :], x[..., n:, :]], -2)
    second = {
      "video": cut(video[:, 1:], change),
      "vector": given["vector"][:, 1:],
    }
    moved = {
      "given": cut(np.asarray(state["given"]), change),
      "output": cut(np.asarray(state["output"]), g.scale * change),
    }
    return np.asarray(step(second, moved, times[:, 1:])[0])[0, 0]

  unit = g.patch * g.scale
  whole = last(0)
  edge = 5 * g.scale // unit * unit
  far = last(edge // g.scale)
  clean = g.scale * g.margin + edge
  np.testing.assert_allclose(far[:, clean:], whole[:, clean:], atol=1e-6)
  # It is no larger than it must be, but for motion that is less than it may be.
  near = slice(clean - 6 * unit, clean - 5 * unit)
  assert abs(far - whole)[:, near].max() > 1e-6
