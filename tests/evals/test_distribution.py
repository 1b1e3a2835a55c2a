"""Features of two sets of clips, and what they tell."""

import json
import pathlib
import sys
import tracemalloc

import footage
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import files
from vidgan_jax.measures import frechet
from vidgan_jax.measures import kernels
from vidgan_jax.measures import neighbours


def _means(params, video):
  """(B, 6): mean and spread of each channel."""
  x = video.astype(np.float32) * params
  return jnp.concatenate([x.mean((1, 2, 3)), x.std((1, 2, 3))], -1)


def _frames(params, video):
  return (video.astype(np.float32) * params).mean((2, 3))


NET = distribution.Network(
  apply=_means, params=np.float32(1), card={"network": "means"}
)
FRAMES = distribution.Network(
  apply=_frames, params=np.float32(1), card={"network": "frames"}
)


def reference(video, **more):
  return evals.Reference(clips=footage.Clips(video), **more)


@pytest.fixture(scope="module")
def clips():
  rng = np.random.default_rng(0)
  level = rng.integers(60, 190, (64, 1, 1, 1, 3))
  video = level + rng.normal(0, 30, (64, 4, 8, 8, 3))
  return video.clip(0, 255).astype(np.uint8)


def test_fewer_clips_than_asked_for_are_told():
  assert distribution.short(8, 8, 9) == ""
  assert distribution.short(8, 7, 8) == "generated clips: asked 8, there are 7"
  assert distribution.short(8, 8, 7) == "real clips: asked 8, there are 7"
  # As CD-FVD: other numbers of the two.
  assert distribution.short(8, 8, 9, 10) == "real clips: asked 10, there are 9"
  assert distribution.short(8, 8, 7, 7) == ""


def test_memory_does_not_grow_with_the_clips(tmp_path, monkeypatch):
  """Of files, as `vidgan evaluate --generated` reads them."""
  shape = (4, 32, 32, 3)
  size = int(np.prod(shape))
  monkeypatch.setattr(files, "_KEEP", 4 * size)

  def peak(num):
    rng = np.random.default_rng(num)
    sets = []
    for name in ("fake", "real"):
      path = tmp_path / f"{name}{num}.npy"
      np.save(path, rng.integers(0, 256, (num, *shape), np.uint8))
      sets.append(files.open_clips(path, frames=4))
    tracemalloc.start()
    try:
      pair = distribution.compare(*sets, NET, num=num, seed=0, batch=8)
      return tracemalloc.get_traced_memory()[1], pair
    finally:
      tracemalloc.stop()

  peak(24)  # Compiles.
  few, _ = peak(50)
  many, pair = peak(400)
  assert (pair.fake.num, pair.real.num) == (400, 400)
  assert many < 1.5 * few < 100 * size


def test_a_sample_holds_moments_and_rows(clips):
  want = np.asarray(_means(1, clips), np.float64)
  for batch in (1, 7, 64, 100):
    found = distribution.real(reference(clips), NET, 64, batch)
    assert (found.num, found.shape, found.each) == (64, (4, 8, 8), 1)
    np.testing.assert_allclose(found.rows, want, rtol=1e-5)
    np.testing.assert_allclose(found.moments.mean, want.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
      found.moments.cov, np.cov(want.T), rtol=1e-4, atol=1e-3
    )


def test_every_frame_is_a_row(clips):
  found = distribution.generated(reference(clips), FRAMES, 10, 0, 4)
  want = clips[:10].mean((2, 3)).reshape(40, 3)
  np.testing.assert_allclose(found.rows, want, rtol=1e-5)
  assert (found.num, found.moments.num, found.each) == (10, 40, 4)


def test_rows_are_kept_at_random_and_the_same(clips, monkeypatch):
  monkeypatch.setattr(distribution, "KEEP", 16)
  all_rows = np.asarray(_means(1, clips))
  some = [
    distribution.real(reference(clips), NET, 64, batch).rows
    for batch in (5, 64)
  ]
  np.testing.assert_allclose(some[0], some[1], rtol=1e-5)
  assert some[0].shape == (16, 6)
  index = [int(abs(all_rows - row).sum(1).argmin()) for row in some[0]]
  assert len(set(index)) == 16 and index == sorted(index)
  assert index != list(range(16))
  # Of frames those of whole clips.
  found = distribution.real(reference(clips), FRAMES, 64, 5)
  assert found.rows.shape == (16, 3) and found.moments.num == 256
  means = clips.mean((2, 3)).astype(np.float32)
  for four in found.rows.reshape(4, 4, 3):
    assert np.isclose(means, four, rtol=1e-5).all((1, 2)).sum() == 1


def test_frames_are_cut():
  video = np.zeros((2, 10, 4, 4, 3), np.uint8)
  video[:] = np.arange(10)[:, None, None, None]
  cut = distribution.Cut(frames=3, stride=4)
  assert cut.span == 9
  assert cut(video)[0, :, 0, 0, 0].tolist() == [0, 4, 8]
  with pytest.raises(ValueError, match="10 frames, and 13 are needed"):
    distribution.Cut(frames=4, stride=4)(video)
  assert distribution.Cut()(video).shape == video.shape


def compare(fake, real, net=NET, num=100, **options):
  options = {"seed": 0} | options
  return distribution.compare(
    reference(fake), reference(real), net, num=num, **options
  )


def test_figures_know_what_they_rest_on(clips):
  pair = compare(clips[:20], clips[20:])
  fake, real = pair.fake, pair.real
  names = distribution.names("x_frechet", "x_kernel", "x")
  found = dict(distribution.figures(pair, names))
  assert list(found) == [
    *("x_frechet", "x_kernel", "precision_x", "recall_x", "density_x"),
    "coverage_x",
  ]
  for value in found.values():
    assert value.num == {"generated": 20, "real": 44}
    assert "generated clips: asked 100, there are 20" in value.note
    assert value.protocol["size"] == [4, 8, 8]
    assert "jackknife" in value.protocol["estimator"]
    assert value.low <= float(value) <= value.high
  # What is normal stands beside each share, of halves of the real clips.
  halves = np.array_split(np.random.default_rng(0).permutation(44), 2)
  normal = neighbours.shares(*(real.rows[half] for half in halves))
  for name, number in normal._asdict().items():
    text = f"real against real {number:.3g} of 22 and 22 clips"
    assert text in found[f"{name}_x"].note
  assert "real against real" not in found["x_frechet"].note
  want = frechet.distance(fake.moments, real.moments)
  assert float(found["x_frechet"]) == pytest.approx(want, rel=1e-9)
  assert float(found["x_kernel"]) == kernels.mmd(fake.rows, real.rows).value
  want = neighbours.shares(fake.rows, real.rows)
  assert [float(found[f"{n}_x"]) for n in want._fields] == list(want)
  with pytest.raises(ValueError, match=r"\(4, 8, 8\).*\(2, 8, 8\)"):
    compare(clips[:8], clips[:, :2])


def test_figures_of_few_clips(clips):
  names = distribution.names("f", "k", "x")
  found = dict(distribution.figures(compare(clips[:2], clips[2:9]), names))
  assert float(found["f"]) > 0 and found["f"].low is None
  assert "3 clips" in found["k"].note and "6 clips" in found["recall_x"].note
  found = dict(distribution.figures(compare(clips[:6], clips[6:12]), names))
  assert found["f"].low is not None and found["recall_x"].low is None
  assert 0 <= float(found["recall_x"]) <= 1
  # Cut as asked, and said so.
  cut = distribution.Cut(frames=2, stride=2)
  pair = compare(clips[:8], clips[8:16], cut=cut)
  assert pair.fake.shape == (2, 8, 8)
  assert (pair.protocol["frames"], pair.protocol["stride"]) == (2, 2)


def test_what_real_clips_gave_is_kept(clips, tmp_path):
  def source(fingerprint="1"):
    return reference(clips, cache=tmp_path / "a", fingerprint=fingerprint)

  one = source()
  first = distribution.real(one, NET, 64)
  assert one.clips.read_at
  one.clips.read_at = []
  assert distribution.real(one, NET, 64, batch=5) is first
  other = source()  # As in another run of the program.
  again = distribution.real(other, NET, 64, batch=5)
  assert not one.clips.read_at and not other.clips.read_at
  np.testing.assert_array_equal(first.rows, again.rows)
  np.testing.assert_array_equal(first.moments.cov, again.moments.cov)
  assert (again.num, again.shape) == (first.num, first.shape)
  changes = (
    lambda s: distribution.real(s, NET, 32),
    lambda s: distribution.real(s, NET, 64, cut=distribution.Cut(frames=2)),
    lambda s: distribution.real(s, FRAMES, 64),
  )
  for fresh in (False, True):
    for change in changes:
      some = source() if fresh else one
      some.clips.read_at = []
      change(some)
      assert bool(some.clips.read_at) != fresh
  some = source("2")
  distribution.real(some, NET, 64)
  assert some.clips.read_at
  assert len(list((tmp_path / "a").iterdir())) == 5


class Sampler:
  """Draws the same clips each time."""

  def __init__(self, video):
    self.video = video

  def ask(self, num, seed):
    return {"index": np.arange(num)}

  def stream(self, given, seed, *, batch=32, frames=None):
    for start in range(0, len(given["index"]), batch):
      yield self.video[given["index"][start : start + batch]]


def test_a_share_of_the_clips_is_theirs(clips):
  whole = clips[:20]
  for first, last in ((0, 20), (3, 9), (7, 14), (19, 20)):
    for some in (
      distribution.generated_clips(Sampler(clips), 0, last, 7, first=first),
      distribution.generated_clips(reference(clips), 0, last, 7, first=first),
      distribution.real_clips(reference(clips), last, 7, first=first),
    ):
      found = np.concatenate(list(some))
      np.testing.assert_array_equal(found, whole[first:last])


def test_sets_of_mixed_sizes_are_refused(clips):
  def videos():
    yield clips[:2]
    yield clips[2:4, :, :4]

  with pytest.raises(ValueError, match="must be alike"):
    distribution.sample(videos(), NET, 4)


@pytest.mark.parametrize("count, devices", [(1, 8), (2, 2)])
def test_figures_do_not_depend_on_the_devices(count, devices, tmp_path):
  """As `vidgan evaluate` gives them, on one device and on others."""
  for name in ("fake", "real"):
    rng = np.random.default_rng(len(name) + ord(name[0]))
    video = rng.integers(0, 256, (21, 4, 8, 8, 3), np.uint8)
    np.save(tmp_path / f"{name}.npy", video)
  results = [
    figures(tmp_path / f"{a} {b}", a, b) for a, b in ((1, 1), (count, devices))
  ]
  assert len(results[0]) == 6 and results[0]["frd_random"]["value"] > 0
  for name, one in results[0].items():
    other = results[1][name]
    assert one["hash"] == other["hash"] and one["num"] == other["num"]
    for key in ("value", "interval"):
      np.testing.assert_allclose(other[key], one[key], rtol=1e-5, atol=1e-7)


def figures(home, count, devices):
  """The records of `vidgan evaluate`, each process a share of the clips."""
  data = home.parent
  # Nothing is kept: each layout looks at the real clips by itself.
  started = processes.start(
    [
      *(sys.executable, "-m", "vidgan_jax", "evaluate"),
      *("--generated", data / "fake.npy", "--reference", data / "real.npy"),
      *("--frames", 4, "--metrics", "frd_random", "--out", f"{home}.json"),
    ],
    devices,
    count,
    HOME=str(home),
  )
  texts = processes.finish(started)
  assert sum("frd_random" in text for text in texts) == 1  # One tells.
  return json.loads(pathlib.Path(f"{home}.json").read_text())["records"]


def test_figures_of_a_part_of_the_rows_say_so(clips, monkeypatch):
  names = distribution.names("f", "k", "x")
  figures = lambda: dict(
    distribution.figures(compare(clips[:40], clips[24:], num=40), names)
  )
  assert not any("rows" in value.note for value in figures().values())
  monkeypatch.setattr(distribution, "KEEP", 16)
  found = figures()
  for name in ("k", "precision_x", "coverage_x"):
    assert "of 16 of the 40 generated rows" in found[name].note
  assert "rows" not in found["f"].note  # Its moments are of all.
