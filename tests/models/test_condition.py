"""What models read of `given`; that it reaches them: tests/test_rooms.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax import models
from vidgan_jax.models import condition

SMALL = {
  "continuous": {"widths": (8, 8), "style_dim": 8},
  "dcgan3d": {"width": 4},
  "mlp": {"widths": (8,)},
  "trunk": {"width": 4, "blocks": 1},
}


def build(name, **fields):
  """A small pair, and (z, times, video) of two clips of four frames."""
  variant = {"trunk": "XS", "continuous": "XS"}.get(name, "S")
  own = {"generator": SMALL[name], "discriminator": {}}
  fields = {"num_classes": 0} | own | fields
  g, d = models.create(
    dict(name=name, variant=variant, resolution=16, frames=4) | fields,
    jnp.float32,
  )
  z = {k: some(1, 2, *s) for k, s in g.noise_spec(1.0).items()}
  times = np.tile(np.arange(4, dtype=np.float32) / 8, (2, 1))
  return g, d, z, times, some(2, 2, 4, 16, 16, 3)


def some(seed, *sizes):
  return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


def test_a_text_is_its_words_in_order():
  texts = jnp.array([[1, 2, 3, 0, 0], [3, 2, 1, 0, 0], [1, 2, 3, 0, 0]])
  net = condition.Text(8)
  state = net.init(jax.random.key(0), texts)
  got = net.apply(state, texts)
  np.testing.assert_allclose(jnp.mean(got**2, -1), 1, 1e-4)
  np.testing.assert_array_equal(got[0], got[2])
  assert np.abs(got[0] - got[1]).max() > 0.1
  # What is behind the last word does not count.
  longer = net.apply(state, jnp.pad(texts, ((0, 0), (0, 3))))
  np.testing.assert_allclose(longer, got, atol=1e-5)
  vectors = jnp.asarray(some(0, 3, 5, 4)) * (texts > 0)[..., None]
  state = net.init(jax.random.key(0), vectors)
  wide = jnp.pad(vectors, ((0, 0), (0, 3), (0, 0)))
  np.testing.assert_allclose(
    net.apply(state, wide), net.apply(state, vectors), atol=1e-5
  )
  # No word at all is no NaN.
  assert np.isfinite(net.apply(state, 0 * vectors)).all()


def test_frozen_vectors_are_blurred_in_training_alone():
  vectors = np.ones((64, 5, 40), np.float32)
  vectors[:, 3:] = 0
  keys = jax.random.split(jax.random.key(1), 64)

  class Net(nn.Module):
    @nn.compact
    def __call__(self, given):
      return condition.Condition(self, given).text()

  net, given = Net(), {"text_vectors": vectors}
  params = net.init(jax.random.key(0), given)
  plain, noisy = (net.apply(params, g) for g in (given, given | {"keys": keys}))
  assert np.ptp(plain, 0).max() == 0 and np.ptp(noisy, 0).min() > 0
  noise = condition._blurred(vectors, keys) - vectors
  assert not noise[:, 3:].any()  # What is behind the last word stays so.
  np.testing.assert_allclose(noise[:, :3].std(), 0.1, rtol=0.05)
  # Tokens, and what they had learnt before, are as they were.
  given = {"text": np.ones((64, 5), np.int32)}
  params = net.init(jax.random.key(0), given)
  np.testing.assert_array_equal(
    net.apply(params, given), net.apply(params, given | {"keys": keys})
  )


@pytest.mark.parametrize("name", ["continuous", "dcgan3d", "trunk"])
def test_a_layout_is_seen_where_it_is(name):
  g, d, z, times, video = build(name)
  layout = np.zeros((2, 4, 16, 16), np.uint8)
  given = {"video": video} if name == "trunk" else {}
  given["layout"] = layout
  moved = given | {"layout": layout.copy()}
  moved["layout"][0, 1, 8:, 8:] = 3

  @jax.jit
  def outputs(given):
    randomise = lambda shapes: jax.tree.map(
      lambda x: (
        jnp.full(x.shape, 0.1) * jnp.sin(jnp.arange(x.size)).reshape(x.shape)
      ),
      shapes,
    )
    key = jax.random.key(0)
    g_params = randomise(jax.eval_shape(g.init, key, given, z, times))
    d_params = randomise(jax.eval_shape(d.init, key, video, given, times))
    scores = d.apply(d_params, video, given, times)
    return g.apply(g_params, given, z, times), scores.logits

  drawn, scores = outputs(given)
  other, others = outputs(moved)
  change = np.abs(drawn - other).max(-1)
  assert change[0, 1, 8:, 8:].mean() > 2 * change[0, 1, :5, :5].mean()
  assert change[0].max() > 0 and not change[1].any()
  assert any(np.abs(a - b)[0].max() > 0 for a, b in zip(scores, others))


def test_what_a_model_cannot_read_is_named():
  g, d, z, times, video = build("mlp")
  key = jax.random.key(0)
  place = {"layout": np.zeros((2, 4, 16, 16), np.uint8)}
  for init in (
    lambda given: g.init(key, given, z, times),
    lambda given: d.init(key, video, given, times),
  ):
    with pytest.raises(errors.UserError, match="'layout'.*'mlp'.*'sound'"):
      jax.eval_shape(init, place)
    with pytest.raises(errors.UserError, match="'video', which.*'mlp'"):
      jax.eval_shape(init, {"video": video})
    jax.eval_shape(init, {"progress": jnp.zeros(2)})
  # A label is not looked at without classes; with classes it must be there.
  jax.eval_shape(g.init, key, {"label": np.zeros(2, np.int32)}, z, times)
  g = build("mlp", num_classes=3)[0]
  with pytest.raises(errors.UserError, match="num_classes is 3.*no 'label'"):
    jax.eval_shape(g.init, key, {}, z, times)


@pytest.mark.parametrize("name", ["continuous", "dcgan3d"])
def test_what_was_learnt_must_be_given(name):
  g, _, z, times, _ = build(name)
  given = {"text": np.ones((2, 5), np.int32), "sound": some(3, 2, 4, 6)}
  params = jax.eval_shape(g.init, jax.random.key(0), given, z, times)
  for signal, others in (("sound", "text"), ("text", "sound")):
    with pytest.raises(
      errors.UserError, match=f"with .*{signal}.*{others}.*is"
    ):
      jax.eval_shape(g.apply, params, {others: given[others]}, z, times)


def test_match_is_the_cross_entropy_of_both_ways():
  clips, texts = some(1, 5, 7), some(2, 5, 3)
  same = np.eye(5, dtype=bool)
  same[1, 3] = same[3, 1] = True  # Two clips have one text.
  net = condition.Match(4)
  state = net.init(jax.random.key(0), clips, texts, same)
  got, pairs = net.apply(state, clips, texts, same)
  # Once more, in float64 and by loops.
  weights = jax.tree.map(lambda x: np.float64(x), state["params"])

  def unit(x, part):
    x = x @ weights[part]["kernel"] + weights[part]["bias"]
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  a, b = unit(clips, "clips"), unit(texts, "conditions")
  np.testing.assert_allclose(pairs, np.stack([a, b], 1), atol=1e-5)
  want = []
  for i in range(5):
    others = [j for j in range(5) if j == i or not same[i, j]]
    score = 10 * a[i] @ b[i]
    there = np.log(sum(np.exp(10 * a[i] @ b[j]) for j in others))
    back = np.log(sum(np.exp(10 * a[j] @ b[i]) for j in others))
    want.append((there + back) / 2 - score)
  np.testing.assert_allclose(got, want, rtol=2e-5)
  # The gradient is finite though equal texts count as -inf.
  loss = lambda p, x: net.apply(p, x, texts, same)[0].sum()
  for slope in jax.tree.leaves(jax.grad(loss, (0, 1))(state, clips)):
    assert np.isfinite(slope).all() and np.any(slope)


def test_the_flagship_asks_which_text_is_the_clips():
  texts = np.int32([[1, 2], [3, 4]])
  _, d, _, times, video = build("continuous", discriminator={"match": 8})
  params = d.init(jax.random.key(0), video, {"text": texts}, times)
  asked = lambda t: d.apply(params, video, {"text": t}, times).auxiliary
  assert asked(texts)["match"].shape == (2,)
  assert (
    np.abs(asked(texts)["match"] - asked(texts[::-1])["match"]).max() > 1e-3
  )
  # Of one text there is nothing to choose.
  np.testing.assert_allclose(asked(texts[[0, 0]])["match"], 0, atol=1e-6)
  with pytest.raises(errors.UserError, match="gives none: set it to 0"):
    jax.eval_shape(d.init, jax.random.key(0), video, {}, times)


def test_sync_tells_times_and_clips_apart():
  frames, rows = some(1, 3, 4, 7), some(2, 3, 4, 5)
  net = condition.Sync(6)
  state = net.init(jax.random.key(0), frames, rows)
  got, pairs = net.apply(state, frames, rows)
  # Once more, in float64 and by loops.
  weights = jax.tree.map(lambda x: np.float64(x), state["params"])
  pad = np.pad(np.float64(rows), ((0, 0), (1, 1), (0, 0)))
  kernel = weights["around"]["kernel"]
  around = sum(pad[:, i : i + 4] @ kernel[i] for i in range(3))
  around = np.where(around > 0, around, 0.2 * around) * 1.387

  def unit(x, part):
    x = x @ weights[part]["kernel"] + weights[part]["bias"]
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  a, b = unit(np.float64(frames), "frames"), unit(around, "rows")
  np.testing.assert_allclose(pairs, np.stack([a, b], 2), atol=1e-5)
  for i in range(3):
    scores = [np.mean([a[i, t] @ b[j, t] for t in range(4)]) for j in range(3)]
    scores += [
      np.mean([a[i, t] @ b[i, (t - k) % 4] for t in range(4)])
      for k in range(1, 4)
    ]
    scores = 10 * np.array(scores)
    want = np.log(np.exp(scores).sum()) - scores[i]
    np.testing.assert_allclose(got[i], want, rtol=2e-5)
  # Silence is silence, of every clip and at every time.
  rows[:2] = 0
  got, pairs = net.apply(state, frames, rows)
  other = np.mean(np.sum(pairs[:2, :, 0] * pairs[2, :, 1], -1), 1)
  np.testing.assert_allclose(got[:2], np.log1p(np.exp(10 * other)), rtol=1e-4)
  loss = lambda p, x: net.apply(p, x, rows[:2])[0].sum()
  value, slopes = jax.value_and_grad(loss, (0, 1))(state, frames[:2])
  assert abs(value) < 1e-5
  for slope in jax.tree.leaves(slopes):
    np.testing.assert_allclose(slope, 0, atol=1e-4)


@pytest.mark.parametrize("temporal_head", [False, True])
def test_the_flagship_asks_which_sound_is_the_clips(temporal_head):
  _, d, _, times, video = build(
    "continuous", discriminator={"sync": 8, "temporal_head": temporal_head}
  )
  given = {"sound": some(3, 2, 4, 6)}
  params = d.init(jax.random.key(0), video, given, times)
  moved = {"sound": np.roll(given["sound"], 1, 1)}
  one, other = (d.apply(params, video, g, times) for g in (given, moved))
  asked = one.auxiliary["sync"]
  assert asked.shape == (2,)
  assert np.abs(asked - other.auxiliary["sync"]).min() > 1e-4
  # It has to look at the picture: the sound is nowhere else.
  jax.tree.map(np.testing.assert_array_equal, one.features, other.features)
  with pytest.raises(errors.UserError, match="nothing of the kind"):
    jax.eval_shape(d.init, jax.random.key(0), video, {}, times)


@pytest.mark.parametrize("around", [False, True])
def test_rows_are_read_at_any_time(around):
  rows = some(1, 2, 9, 5)
  at = np.tile(np.arange(9, dtype=np.float32) / 8, (2, 1))

  class Reader(nn.Module):
    @nn.compact
    def __call__(self, given, times):
      return condition.Condition(self, given).rows(times, 6, around)

  net = Reader()
  params = net.init(jax.random.key(0), {"sound": rows}, at)
  whole = net.apply(params, {"sound": rows}, at)
  read = lambda t, x=rows: net.apply(
    params, {"sound": x, "row_times": at}, np.float32([t, t])
  )
  np.testing.assert_allclose(read(at[0]), whole, atol=1e-6)
  # In any order, and beyond the ends as at the ends.
  np.testing.assert_allclose(
    read([1.0, 0.25, 9, -1]), whole[:, [8, 2, 8, 0]], atol=1e-6
  )
  between = read([0.3125])[:, 0]
  middle = (whole[:, 2] + whole[:, 3]) / 2
  nearest = np.abs(between - whole[:, 2]).max() < 1e-5
  assert nearest != around
  if around:
    np.testing.assert_allclose(between, middle, atol=1e-5)
  # Whom a row reaches.
  changed = rows.copy()
  changed[:, 0] += 1
  reached = np.abs(read(at[0], changed) - whole).max((0, 2)) > 1e-6
  assert reached.tolist() == [i <= 7 * around for i in range(9)]
