"""Features of two sets of clips, and what they tell."""

import os
import pathlib
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax.evals import distribution
from vidgan_jax.evals import statistics

ROOT = pathlib.Path(__file__).parents[1]


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


class Clips:
  """A source and a model of clips in memory."""

  def __init__(self, video):
    self.video, self.read_at = video, []

  def __len__(self):
    return len(self.video)

  def read(self, indices):
    self.read_at += indices
    return [{"video": self.video[i]} for i in indices]

  def stream(self, seed, num, batch=32, *, frames=None):
    for start in range(0, num, batch):
      yield self.video[start : min(start + batch, num)]


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


def test_a_sample_holds_moments_and_rows(clips):
  want = np.asarray(_means(1, clips), np.float64)
  for batch in (1, 7, 64, 100):
    found = distribution.real(Clips(clips), NET, 64, batch)
    assert (found.num, found.shape) == (64, (4, 8, 8))
    assert len(found.parts) == distribution.PARTS
    np.testing.assert_allclose(found.rows, want, rtol=1e-5)
    np.testing.assert_allclose(found.whole.mean, want.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
      found.whole.cov, np.cov(want.T), rtol=1e-4, atol=1e-3
    )


def test_every_frame_is_a_row(clips):
  found = distribution.generated(Clips(clips), FRAMES, 10, 0, 4, parts=1)
  want = clips[:10].mean((2, 3)).reshape(40, 3)
  np.testing.assert_allclose(found.rows, want, rtol=1e-5)
  assert (found.num, found.whole.num) == (10, 40)


def test_rows_are_kept_at_random_and_the_same(clips, monkeypatch):
  monkeypatch.setattr(distribution, "KEEP", 16)
  all_rows = np.asarray(_means(1, clips))
  some = [
    distribution.real(Clips(clips), NET, 64, batch).rows for batch in (5, 64)
  ]
  np.testing.assert_allclose(some[0], some[1], rtol=1e-5)
  assert some[0].shape == (16, 6)
  index = [int(abs(all_rows - row).sum(1).argmin()) for row in some[0]]
  assert len(set(index)) == 16 and index == sorted(index)
  assert index != list(range(16))


def test_frames_are_cut():
  video = np.zeros((2, 10, 4, 4, 3), np.uint8)
  video[:] = np.arange(10)[:, None, None, None]
  cut = distribution.Cut(frames=3, stride=4)
  assert cut.span == 9
  assert cut(video)[0, :, 0, 0, 0].tolist() == [0, 4, 8]
  with pytest.raises(ValueError, match="10 frames, and 13 are needed"):
    distribution.Cut(frames=4, stride=4)(video)
  assert distribution.Cut()(video).shape == video.shape


def test_the_interval_is_the_jackknife_to_first_order(clips):
  rng = np.random.default_rng(1)
  make = lambda num, shift: (
    rng.standard_normal((num, 8)) @ rng.standard_normal((8, 8)) + shift
  )
  for shift in (0.3, 3.0):
    fake, real = make(300, shift), make(400, 0)
    sample = lambda x: distribution.Sample(
      parts=tuple(statistics.grouped([x])), rows=x, num=len(x), shape=(1, 1, 1)
    )
    value, low, high = distribution.frechet(sample(fake), sample(real))
    want = statistics.frechet_estimate(
      statistics.grouped([fake]), statistics.grouped([real])
    )
    np.testing.assert_allclose(value, want.value, rtol=1e-9)
    np.testing.assert_allclose(high - value, want.high - want.value, rtol=0.1)
    np.testing.assert_allclose(value - low, value - max(want.low, 0), rtol=0.1)


def test_figures_know_what_they_rest_on(clips):
  fake = distribution.generated(Clips(clips[:20]), NET, 20, 0)
  real = distribution.real(Clips(clips[20:]), NET, 100)
  names = {name: f"x_{name}" for name in ("frechet", "kernel", "coverage")}
  found = dict(
    distribution.figures(
      fake, real, names, {"network": "means"}, distribution.short(100, 20, 44)
    )
  )
  assert list(found) == ["x_frechet", "x_kernel", "x_coverage"]
  for value in found.values():
    assert value.num == {"generated": 20, "real": 44}
    assert "generated clips: asked 100, there are 20" in value.note
    assert value.protocol["size"] == [4, 8, 8]
  want = statistics.frechet(fake.whole, real.whole)
  assert float(found["x_frechet"]) == pytest.approx(want, rel=1e-9)
  assert float(found["x_kernel"]) == statistics.mmd(fake.rows, real.rows).value
  other = distribution.real(Clips(clips[:, :2]), NET, 8)
  with pytest.raises(ValueError, match=r"\(4, 8, 8\).*\(2, 8, 8\)"):
    list(distribution.figures(fake, other, names, {}))


def test_what_real_clips_gave_is_kept(clips, tmp_path):
  source = Clips(clips)
  source.cache, source.fingerprint = tmp_path / "a", "1"
  first = distribution.real(source, NET, 64)
  assert source.read_at
  source.read_at = []
  again = distribution.real(source, NET, 64, batch=5)
  assert not source.read_at
  np.testing.assert_array_equal(first.rows, again.rows)
  np.testing.assert_array_equal(first.whole.cov, again.whole.cov)
  assert (again.num, again.shape) == (first.num, first.shape)
  changes = (
    lambda: distribution.real(source, NET, 32),
    lambda: distribution.real(source, NET, 64, cut=distribution.Cut(frames=2)),
    lambda: distribution.real(source, FRAMES, 64),
    lambda: (
      setattr(source, "fingerprint", "2") or distribution.real(source, NET, 64)
    ),
  )
  for change in changes:
    source.read_at = []
    change()
    assert source.read_at
  assert len(list(source.cache.iterdir())) == 5


def test_sets_of_mixed_sizes_are_refused(clips):
  def videos():
    yield clips[:2]
    yield clips[2:4, :, :4]

  with pytest.raises(ValueError, match="must be alike"):
    distribution.sample(videos(), NET, 4)


DEVICES = """
import jax, numpy as np
from vidgan_jax.evals import distribution
from vidgan_jax.evals import frd_random

class Clips:
  def __init__(self, seed):
    rng = np.random.default_rng(seed)
    self.video = rng.integers(0, 256, (21, 4, 8, 8, 3), np.uint8)
  def __len__(self):
    return 21
  def read(self, indices):
    return [{"video": self.video[i]} for i in indices]
  def stream(self, seed, num, batch=32, *, frames=None):
    for start in range(0, 21, batch):
      yield self.video[start:start + batch]

found = dict(frd_random.Evaluator(num=21, batch=5).run(Clips(0), Clips(1)))
print(jax.device_count(), *(float(v) for v in found.values()))
"""


def test_figures_do_not_depend_on_the_devices():
  results = []
  for devices in (1, 8):
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(DEVICES)],
      cwd=ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
      capture_output=True,
      text=True,
      timeout=900,
    )
    assert done.returncode == 0, done.stderr
    count, *values = done.stdout.split()
    assert int(count) == devices
    results.append([float(value) for value in values])
  assert len(results[0]) == 6 and results[0][0] > 0
  np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-7)
