"""The evaluators: what they yield, on what it rests, and what they refuse."""

import math

import footage
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import evals
from vidgan_jax.evals import cd_fvd
from vidgan_jax.evals import fid
from vidgan_jax.evals import fvd
from vidgan_jax.evals import inception_score
from vidgan_jax.evals import jedi
from vidgan_jax.evals import memory
from vidgan_jax.evals import motion
from vidgan_jax.evals import statistics
from vidgan_jax.evals import swd
from vidgan_jax.evals import weights
from vidgan_jax.evals.nets import c3d
from vidgan_jax.evals.nets import i3d
from vidgan_jax.evals.nets import inception
from vidgan_jax.evals.nets import videomae
from vidgan_jax.evals.nets import vjepa


class Clips:
  """A source and a model of clips in memory."""

  def __init__(self, video):
    self.video, self.asked = video, []

  def __len__(self):
    return len(self.video)

  def read(self, indices):
    return [{"video": self.video[i]} for i in indices]

  def stream(self, seed, num, batch=32, *, frames=None):
    self.asked.append((num, frames))
    for start in range(0, min(num, len(self)), batch):
      yield self.video[start : min(start + batch, num)]


def run(evaluator, fake, real, train=None):
  source = Clips(real)
  if train is not None:
    source.train = Clips(train)
  return dict(evaluator.run(Clips(fake), source))


@pytest.fixture(scope="module")
def clips():
  """40 drifting patterns (16, 16, 16, 3)."""
  rng = np.random.default_rng(0)
  pattern = rng.normal(0, 1, (40, 1, 4, 4, 3)).repeat(4, 2).repeat(4, 3)
  level = rng.integers(80, 170, (40, 1, 1, 1, 3))
  frames = [np.roll(pattern, t, 3) for t in range(16)]
  video = level + 25 * np.concatenate(frames, 1)
  return video.clip(0, 255).astype(np.uint8)


# ---------------------------------------------------------------- with weights


class Means:
  """In place of a trained network: means of what it is given."""

  def __init__(self, *args):
    pass

  def apply(self, variables, x):
    axes = tuple(range(1, x.ndim - 1))
    found = jnp.concatenate([x.mean(axes), x.std(axes)], -1)
    return {"logits": found, "features": found}


NETWORKS = {
  "fvd": (fvd, i3d, "i3d", ("fvd24_16f", "kvd24_16f", "recall_i3d24_16f")),
  "fid": (fid, inception, "inception", ("fid", "kid")),
  "cd_fvd": (cd_fvd, videomae, "videomae", ("cd_fvd",)),
  "jedi": (jedi, vjepa, "vjepa", ("jedi",)),
  "is": (inception_score, c3d, "c3d", ("is24_ucf",)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_weights_there_is_a_reason(name, clips, monkeypatch, tmp_path):
  module, _, network, _ = NETWORKS[name]
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path))
  values = run(module.Evaluator(num=24), clips, clips)
  assert values
  for value in values.values():
    assert math.isnan(float(value))
    assert value.note.startswith(f"not computed: put {network}.safetensors at")
    assert "docs/metrics.md" in value.note


@pytest.mark.parametrize("name", NETWORKS)
def test_with_weights(name, clips, monkeypatch):
  module, net, network, names = NETWORKS[name]
  monkeypatch.setattr(net, "Network", Means)
  monkeypatch.setattr(weights, "load", lambda n: ({}, f"sha of {n}"))
  if hasattr(module._apply, "cache_clear"):
    module._apply.cache_clear()
  evaluator = module.Evaluator(num=24, batch=8)
  values = run(evaluator, clips[:24], clips[16:])
  assert set(names) <= set(values)
  for value in values.values():
    assert isinstance(value, evals.Value) and math.isfinite(float(value))
    assert value.protocol["network"] == network
    assert value.protocol["weights"] == f"sha of {network}"
    assert value.protocol["frames"] in (16, None)
    assert value.hash
  if name == "is":
    assert values[names[0]].num == 24
    return
  value = values[names[0]]
  assert value.num == {"generated": 24, "real": 24}
  # The features that the evaluator ought to have used.
  preprocess = net.preprocess
  flat = lambda v: v.reshape(-1, *v.shape[2:]) if name == "fid" else v
  rows = [
    np.asarray(Means().apply({}, preprocess(flat(v)))["features"], np.float64)
    for v in (clips[:24], clips[16:])
  ]
  if name == "jedi":
    want = statistics.jedi(*rows).value
  else:
    want = statistics.frechet(*(statistics.moments([x]) for x in rows))
  assert float(value) == pytest.approx(want, rel=1e-4)
  for value in values.values():
    assert value.low <= float(value) <= value.high
  # The same clips have no distance, and the real ones are not read again.
  if name in ("fvd", "cd_fvd"):
    source = Clips(clips[16:])
    for _ in range(2):
      again = dict(evaluator.run(Clips(clips[16:]), source))
      assert float(again[names[0]]) < 1e-6 * want
      monkeypatch.setattr(source, "read", None)


def test_names_are_those_of_papers(clips, monkeypatch):
  evaluator = fvd.Evaluator(frames=16, stride=8)
  assert evaluator._suffix(2048) == "2048_128f_subsample8f"
  assert fvd.Evaluator()._suffix(2048) == "2048_16f"
  monkeypatch.setattr(i3d, "Network", Means)
  monkeypatch.setattr(weights, "load", lambda n: ({}, "sha"))
  with pytest.raises(ValueError, match="16 frames, and 121 are needed"):
    run(evaluator, clips, clips)
  with pytest.raises(ValueError, match="Did you mean 'tfhub'"):
    fvd.Evaluator(protocol="tfhab")


# ------------------------------------------------------------- without weights


def test_swd_is_that_of_all_clips(clips):
  values = run(swd.Evaluator(num=40, batch=7), clips, clips)
  assert float(values["swd"]) == 0
  values = run(swd.Evaluator(num=24), clips[:24], clips[16:])
  noisy = run(swd.Evaluator(num=24), footage.noise(clips[:24], 20), clips[16:])
  assert float(noisy["swd"]) > 2 * float(values["swd"]) > 0
  assert values["swd"].num == {"generated": 24, "real": 24}
  assert values["swd"].low < float(values["swd"]) < values["swd"].high
  shorter = run(swd.Evaluator(num=99), clips[:24], clips)
  assert "generated clips: asked 99, there are 24" in shorter["swd"].note


def test_motion_is_told_from_its_speed(clips):
  pytest.importorskip("cv2")
  fast = np.repeat(clips[:, ::2], 2, 1)
  still = np.repeat(clips[:, :1], 16, 1)
  same = run(motion.Evaluator(num=40, batch=9), clips, clips)
  assert float(same["motion/speed_distance"]) == 0
  assert float(same["motion/spectrum_distance"]) == 0
  assert same["motion/order"] == same["motion/order_real"]
  for other in (fast, still):
    found = run(motion.Evaluator(num=40), other, clips)
    for name in ("motion/speed_distance", "motion/spectrum_distance"):
      value = found[name]
      assert float(value) > 0 and value.low <= float(value) <= value.high
      assert value.num == {"generated": 40, "real": 40}


def test_motion_without_opencv(clips, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "cv2", None)
  found = run(motion.Evaluator(num=20), clips, clips)
  assert math.isnan(float(found["motion/speed_distance"]))
  assert "opencv" in found["motion/speed_distance"].note
  assert float(found["motion/spectrum_distance"]) == 0


def test_memory_finds_copies(clips):
  train, held_out = clips[:20], clips[20:]
  rng = np.random.default_rng(1)
  fresh = rng.permuted(held_out, axis=0)[:20]
  honest = run(memory.Evaluator(num=20), fresh, held_out, train)
  evaluator = memory.Evaluator(num=20, pairs=3)
  copied = run(evaluator, footage.noise(train, 2), held_out, train)
  for space in ("features", "hashes"):
    assert float(copied[f"memory/near_copies_{space}"]) >= 0.9
    assert float(copied[f"memory/near_copies_held_out_{space}"]) <= 0.05
    copies = copied[f"memory/near_copies_{space}"]
    assert copies.low < float(copies) <= copies.high
    assert "Wilson" in copies.protocol["estimator"]
    nearer = f"memory/nearer_{space}"
    assert float(copied[nearer]) > 0.95 > float(honest[nearer])
  assert copied["memory/diversity"].num["train"] == 20
  pairs = evaluator.closest
  assert pairs.generated.shape == pairs.training.shape == (3, 8, 16, 16, 3)
  gap = abs(pairs.generated.astype(int) - pairs.training)
  assert gap.mean() < 5  # Each beside its original.
  one = np.repeat(clips[:1], 20, 0)
  alike = run(memory.Evaluator(num=20), one, held_out)
  assert float(alike["memory/diversity"]) < 1e-3
  assert float(alike["memory/diversity_real"]) > 0.1
  assert "--train" in alike["memory/nearer_features"].note
  few = run(memory.Evaluator(num=8), clips[:8], held_out, train)
  for space in ("features", "hashes"):
    note = few[f"memory/near_copies_{space}"].note
    assert note.startswith("not computed") and "8 held-out clips" in note
  # What the generator reaches of the real clips: all, many, or those that look
  # like the only one that it makes (textures are alike here, colours are not).
  recall = lambda fake: run(memory.Evaluator(num=40), fake, clips)[
    "memory/latent_recall"
  ]
  found = [recall(fake) for fake in (clips, clips[:20], one)]
  assert 1 == float(found[0]) > float(found[1]) > float(found[2]) < 0.5
  assert all(v.low <= float(v) <= v.high for v in found)
