import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax.models import bases
from vidgan_jax.models import layers
from vidgan_jax.models import trunk

H, W, T = 16, 40, 13
# A generator of each kind, and what its task gives.
KINDS = {
  "denoise": dict(vector_dim=2),
  "map": dict(),
  "stream": dict(temporal="causal", patch=1),
  "still": dict(temporal="none", patch=4, width=8),
  "super_resolve": dict(base="lanczos", scale=2, patch=1),
  "interpolate": dict(base="temporal", compose=True),
  "move": dict(base="temporal", compose=True, motion=12.5),
  "predict": dict(base="hold", temporal="causal", noise_dim=3, motion=2.5),
  "colorize": dict(keep_luma=True),
  "light": dict(curve=True, follow=True, vector_dim=3),
}


@functools.cache
def _make(kind, t=T, h=H, w=W):
  """A generator, its parameters (none zero), and its inputs."""
  rng = np.random.default_rng(0)
  uniform = lambda *s: rng.uniform(-1, 1, s).astype(np.float32)
  g = trunk.Generator(**(dict(width=4, blocks=1) | KINDS[kind]))
  mask = np.ones((2, t, h, w, 1), np.float32)
  mask[:, : 2 if kind == "predict" else None : 2] = 0
  given = {"video": uniform(2, t, h, w, 3)}
  if kind == "map":
    given["map"] = uniform(2, t, h, w, 2)
  elif kind != "super_resolve":
    given["mask"] = mask
    hidden = kind in ("interpolate", "move", "predict")
    given["video"] *= 1 - mask if hidden else 1
  if g.vector_dim:
    given["vector"] = uniform(2, t, g.vector_dim)
  z = {k: uniform(2, *s) for k, s in g.noise_spec(1.0).items()}
  times = np.cumsum(rng.uniform(0.02, 0.06, (2, t)), 1).astype(np.float32)
  start = jax.jit(g.init)(jax.random.key(0), given, z, times)["params"]
  # Zero-initialised ends would hide everything.
  leaves, tree = jax.tree.flatten(start)
  params = [x + 0.2 * uniform(*x.shape) for x in leaves]
  return g, start, jax.tree.unflatten(tree, params), given, z, times


@functools.partial(jax.jit, static_argnums=0)
def _run(g, params, given, z, times):
  return g.apply({"params": params}, given, z, times)


def _apply(*args):
  return np.asarray(_run(*args))


def _cut(given, f):
  """Cuts pictures in space or time; vectors only in time."""
  return {k: f(x) for k, x in given.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_the_base(kind):
  g, start, params, given, z, times = _make(kind)
  base = jax.jit(lambda x, t: bases.BASES[g.base](x, t, g.scale))(given, times)
  assert base.shape == (2, T, H * g.scale, W * g.scale, 3)
  before = _apply(g, start, given, z, times)
  np.testing.assert_array_equal(before, base)
  after = _apply(g, params, given, z, times)
  assert after.dtype == np.float32
  assert abs(after - before).mean() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_and_chunks_give_the_whole(kind):
  g, _, params, given, z, times = _make(kind)
  whole = _apply(g, params, given, z, times)
  pixels, before, after = g.halo
  assert pixels % g.align == 0 and pixels < W - g.align
  s = g.scale
  # Tiles that begin and end at a cut.
  left = g.align
  spatial = lambda f: {
    k: x if k == "vector" else f(x) for k, x in given.items()
  }
  tile = _apply(g, params, spatial(lambda x: x[:, :, :, left:]), z, times)
  np.testing.assert_allclose(
    tile[:, :, :, pixels * s :],
    whole[:, :, :, (left + pixels) * s :],
    atol=1e-5,
  )
  assert abs(tile - whole[:, :, :, left * s :]).max() > 1e-4
  right = W - g.align
  tile = _apply(g, params, spatial(lambda x: x[:, :, :, :right]), z, times)
  keep = (right - pixels) * s
  np.testing.assert_allclose(
    tile[:, :, :, :keep], whole[:, :, :, :keep], atol=1e-5
  )
  # Chunks.
  end = T - after
  chunk = _apply(g, params, {k: x[:, :-1] for k, x in given.items()}, z,
                 times[:, :-1])  # fmt: skip
  np.testing.assert_allclose(
    chunk[:, : end - 1], whole[:, : end - 1], atol=1e-5
  )
  if before < T - 1:
    chunk = _apply(
      g, params, {k: x[:, 1:] for k, x in given.items()}, z, times[:, 1:]
    )
    np.testing.assert_allclose(
      chunk[:, before:], whole[:, before + 1 :], atol=1e-5
    )
  else:
    assert before >= bases.REACH


def test_the_halo_is_no_larger_than_it_must_be():
  """A change of one pixel and frame reaches the border of the halo."""
  for kind in ("stream", "still", "super_resolve"):
    g, _, params, given, z, times = _make(kind)
    pixels, before, after = g.halo
    video = given["video"].copy()
    middle, place = T // 2, W // 2 // g.patch * g.patch
    video[:, middle, :, place : place + g.patch] += 1
    one = _apply(g, params, given, z, times)
    two = _apply(g, params, given | {"video": video}, z, times)
    seen = abs(two - one).max((0, 2, 4))  # (T, W)
    frames = np.flatnonzero(seen.max(1) > 1e-7)
    assert (frames[0], frames[-1]) == (middle - after, middle + before)
    columns = np.flatnonzero(seen.max(0) > 1e-7) // g.scale
    assert columns[0] >= place - pixels
    assert columns[-1] < place + g.patch + pixels
    assert columns[0] < place - pixels + g.align * 2


def test_a_cut_of_any_size():
  """No multiple of the patch at the right and the lower border."""
  g, _, params, given, z, times = _make("denoise")
  whole = _apply(g, params, given, z, times)
  part = {
    k: x if k == "vector" else x[:, :, :-1, :-3] for k, x in given.items()
  }
  out = _apply(g, params, part, z, times)
  assert out.shape == (2, T, H - 1, W - 3, 3)
  pixels = g.halo[0] + 3 + g.patch - 1  # The patch that is cut, too.
  np.testing.assert_allclose(
    out[:, :, : H - pixels, : W - pixels],
    whole[:, :, : H - pixels, : W - pixels],
    atol=1e-5,
  )


def test_only_the_unknown_is_written():
  g, _, params, given, z, times = _make("interpolate")
  out = _apply(g, params, given, z, times)
  known = np.broadcast_to(given["mask"] == 0, out.shape)
  np.testing.assert_array_equal(out[known], given["video"][known])


def test_holes_are_filled_from_other_frames():
  """With motion, what a moving hole uncovers elsewhere comes into it."""
  rng = np.random.default_rng(0)
  video = rng.uniform(-1, 1, (1, 3, 32, 32, 3)).astype(np.float32)
  mask = np.zeros((1, 3, 32, 32, 1), np.float32)
  mask[:, 1, 8:20, 8:20] = 1
  given = {"video": video * (1 - mask), "mask": mask}
  times = np.array([[0.0, 0.04, 0.08]], np.float32)
  g = trunk.Generator(
    width=4, blocks=1, base="fill", compose=True,
    motion=4.0, temporal="none",
  )  # fmt: skip
  params = jax.jit(g.init)(jax.random.key(0), given, {}, times)["params"]
  base = bases.fill(given, times)
  np.testing.assert_array_equal(_apply(g, params, given, {}, times), base)
  # How much of the mixture goes in: the last feature of each pixel.
  head = params["body"]["Conv_3"]["bias"]
  share = np.zeros_like(head).reshape(4, 9)
  share[:, 8] = 1.0
  params["body"]["Conv_3"]["bias"] = jnp.asarray(share.reshape(-1))
  np.testing.assert_allclose(
    _apply(g, params, given, {}, times)[:, 1, 8:20, 8:20],
    (video[:, 0] + video[:, 2])[:, 8:20, 8:20] / 2,
    atol=1e-6,
  )


def test_what_hardly_changes_stays_the_line_in_time():
  g, _, params, given, z, times = _make("move")
  still = given["video"][:, :1] * (1 - given["mask"])
  out = _apply(g, params, given | {"video": still}, z, times)
  np.testing.assert_allclose(
    out[:, 1:], 0 * out[:, 1:] + still[:, :1], atol=1e-6
  )
  assert abs(_apply(g, params, given, z, times) - out)[:, 1].max() > 0.1


def test_luma_is_kept():
  g, _, params, given, z, times = _make("colorize")
  out = _apply(g, params, given, z, times)
  weights = np.array([0.2126, 0.7152, 0.0722])
  np.testing.assert_allclose(out @ weights, given["video"] @ weights, atol=1e-5)
  assert abs(out - given["video"]).max() > 0.01


def test_vector_map_and_noise_matter():
  for kind, name in (("denoise", "vector"), ("map", "map"), ("predict", "z")):
    g, start, params, given, z, times = _make(kind)
    box = z if name == "z" else given
    moved = {k: -x if k == name else x for k, x in box.items()}
    more = (given, moved) if name == "z" else (moved, z)
    one = _apply(g, params, given, z, times)
    assert abs(_apply(g, params, *more, times) - one).max() > 1e-3
    films = [x for k, x in _flat(start) if "Film" in k]
    assert films and not any(np.any(x) for x in films)
  assert not [k for k, _ in _flat(_make("stream")[1]) if "Film" in k]


def _flat(params):
  flat = jax.tree_util.tree_flatten_with_path(params)[0]
  return [(jax.tree_util.keystr(k), x) for k, x in flat]


def test_causal_mixing_does_not_see_the_future():
  mix = layers.TemporalMix(gain=1.0, causal=True)
  x = jax.random.normal(jax.random.key(0), (5, 2, 2, 3))
  params = mix.init(jax.random.key(1), x, 5)
  changed = mix.apply(params, x.at[3].add(1.0), 5) - mix.apply(params, x, 5)
  assert not changed[:3].any() and changed[3].any() and changed[4].any()
  one = mix.apply(params, x[:1], 1)  # A clip of one frame.
  np.testing.assert_allclose(
    one, mix.apply(params, jnp.repeat(x[:1], 3, 0), 3)[:1], 1e-5
  )


def test_sizes():
  """The variants have the parameters that the table says."""
  million = {"XS": 0.1, "S": 0.2, "M": 0.45, "L": 1.2, "XL": 3.5, "XXL": 20}
  assert list(million) == list(trunk.VARIANTS)
  shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
  for name, fields in trunk.VARIANTS.items():
    g = trunk.Generator(**fields["generator"])
    given = {"video": shape(1, 2, 8, 8, 3)}
    params = jax.eval_shape(g.init, jax.random.key(0), given, {}, shape(1, 2))
    count = sum(x.size for x in jax.tree.leaves(params)) / 1e6
    assert 0.85 * million[name] < count < 1.15 * million[name], (name, count)


@pytest.mark.parametrize(
  "fields, what",
  [
    (dict(compose=True), "compose is True, but the task gives no 'mask'"),
    (dict(vector_dim=3), "vector_dim is 3, but the task gives no 'vector'"),
    (dict(base="bicubic"), "base is 'bicubic'; there are copy, lanczos"),
    (dict(motion=4.0), "nothing moves in the base 'copy'"),
    (dict(scale=2), "set scale to 1, or base to 'lanczos'"),
  ],
)
def test_errors(fields, what):
  given = {"video": jnp.zeros((1, 2, 8, 8, 3))}
  with pytest.raises(ValueError, match=what):
    g = trunk.Generator(**fields)
    jax.eval_shape(g.init, jax.random.key(0), given, {}, jnp.zeros((1, 2)))


def test_a_vector_of_another_length():
  given = {"video": jnp.zeros((1, 2, 8, 8, 3)), "vector": jnp.zeros((1, 2, 4))}
  g = trunk.Generator(vector_dim=3)
  with pytest.raises(ValueError, match=r"vector_dim asks for \(1, 2, 3\)"):
    jax.eval_shape(g.init, jax.random.key(0), given, {}, jnp.zeros((1, 2)))


def test_heads_of_the_discriminator():
  d = trunk.Discriminator(
    heads=("triplet", "temporal", "frame"),
    width=4,
    levels=2,
    conditional=True,
  )
  video = jnp.zeros((2, 4, 8, 8, 3))
  given = {"video": jnp.zeros((2, 4, 4, 4, 3))}
  init = lambda net: jax.eval_shape(
    lambda v: net.init_with_output(jax.random.key(0), v, given, None), video
  )
  scores, _ = init(d)
  assert [x.shape for x in scores.logits] == [(2, 8), (2, 16), (2, 16), (2, 4)]
  assert [len(x) for x in scores.features] == [2, 2, 2, 2]
  with pytest.raises(ValueError, match="'unet'; there are triplet, temporal"):
    init(d.clone(heads=("unet",)))


def test_who_is_asked_for_the_sound_does_not_hear_it():
  """Else the answer would be read off what is given, and not off the lips."""
  rng = np.random.default_rng(0)
  video = rng.standard_normal((3, 4, 16, 16, 3)).astype(np.float32)
  given = {"sound": rng.standard_normal((3, 4, 6)).astype(np.float32)}
  times = np.tile(np.arange(4, dtype=np.float32), (3, 1))
  d = trunk.Discriminator(heads=("triplet", "frame"), width=4, levels=1, sync=5)
  params = d.init(jax.random.key(0), video, given, times)
  scores = d.apply(params, video, given, times)
  other = d.apply(params, video, {"sound": -given["sound"]}, times)
  assert scores.auxiliary["sync"].shape == (3,)
  assert abs(scores.auxiliary["sync"] - other.auxiliary["sync"]).min() > 1e-4
  for a, b in zip(scores.logits, other.logits):
    np.testing.assert_array_equal(a, b)
  d = trunk.Discriminator(sync=5)
  with pytest.raises(errors.UserError, match="'frame' or 'temporal'"):
    d.init(jax.random.key(0), video, given, times)


def test_d_is_asked_for_the_map():
  d = trunk.Discriminator(width=8, levels=2, segment=True)
  given = {"video": np.zeros((2, 4, 16, 16, 3), np.float32)}
  video, times = given["video"] + 0.5, np.zeros((2, 4), np.float32)
  with pytest.raises(ValueError, match="no 'map'"):
    jax.eval_shape(d.init, jax.random.key(0), video, given, times)
  given["map"] = np.zeros((2, 4, 16, 16, 4), np.float32)
  shape = jax.eval_shape(
    lambda *x: d.apply(d.init(jax.random.key(0), *x), *x), video, given, times
  )
  assert shape.auxiliary["segment"].shape == (2,)
