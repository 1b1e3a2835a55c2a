"""The evaluators: what they yield, on what it rests, and what they refuse."""

import importlib
import math
import re
import types

import footage
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import evals
from vidgan_jax.evals import cd_fvd
from vidgan_jax.evals import distribution
from vidgan_jax.evals import fid
from vidgan_jax.evals import fvd
from vidgan_jax.evals import inception_score
from vidgan_jax.evals import jedi
from vidgan_jax.evals import memory
from vidgan_jax.evals import motion
from vidgan_jax.evals import oracle
from vidgan_jax.evals import paired
from vidgan_jax.evals import swd
from vidgan_jax.measures import frechet
from vidgan_jax.measures import kernels
from vidgan_jax.nets import c3d
from vidgan_jax.nets import i3d
from vidgan_jax.nets import inception
from vidgan_jax.nets import store as weights
from vidgan_jax.nets import videomae
from vidgan_jax.nets import vjepa


def reference(video, **more):
  return evals.Reference(clips=footage.Clips(video), **more)


def values_of(results):
  """What an evaluator yields, without exhibits."""
  return {k: v for k, v in results if not isinstance(v, evals.Exhibit)}


def run(evaluator, fake, real, train=None):
  train = train if train is None else reference(train)
  real = reference(real, train=train)
  return values_of(evaluator.run(reference(fake), real))


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


def toy(name, monkeypatch):
  """Puts `Means` in place of a network; its evaluator, and the rest."""
  module, net, network, names = NETWORKS[name]
  monkeypatch.setattr(net, "Network", Means)
  monkeypatch.setattr(weights, "load", lambda n: ({}, f"sha of {n}"))
  fid._apply.cache_clear()
  return module, net, network, names


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
  module, net, network, names = toy(name, monkeypatch)
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
    want = kernels.jedi(*rows).value
  else:
    want = frechet.distance(*(frechet.moments([x]) for x in rows))
  assert float(value) == pytest.approx(want, rel=1e-4)
  for value in values.values():
    assert value.low <= float(value) <= value.high
  # The same clips have no distance, and the real ones are not read again.
  if name in ("fvd", "cd_fvd"):
    source = reference(clips[16:])
    for _ in range(2):
      again = dict(evaluator.run(reference(clips[16:]), source))
      assert float(again[names[0]]) < 1e-6 * want
      monkeypatch.setattr(source.clips, "read", None)


EVERY = (
  *("frd_random", "swd", "motion", "memory", "two_sample", "speed"),
  *NETWORKS,
)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("num", [3, 24])
def test_every_value_has_an_interval_or_says_why_not(
  name, num, clips, monkeypatch
):
  options = {} if name == "speed" else {"num": num}
  options |= {"steps": 8} if name == "two_sample" else {}
  if name in NETWORKS:
    module, *_ = toy(name, monkeypatch)
    options |= {"extrapolate": True} if name == "fvd" else {}
    options |= {"splits": min(num, 3) - 1} if name == "is" else {}
  else:
    module = importlib.import_module(f"vidgan_jax.evals.{name}")
  model = reference(clips[:num])
  if name == "speed":
    model = types.SimpleNamespace(
      flops=lambda: 1e9,
      params={"a": np.zeros(3)},
      times=(0.0, 0.1),
      ask=lambda num: {"index": np.arange(num)},
      clips=lambda given, seed, **_: clips[given["index"] % num],
    )
  source = reference(clips[16:][:num], train=reference(clips[:16]))
  values = values_of(module.Evaluator(**options).run(model, source))
  for key, value in values.items():
    if not math.isnan(float(value)) and num == 24:
      check_direction(key, value)
    if math.isnan(float(value)):
      assert "not computed" in value.note, key
    elif value.low is None:
      assert "no interval: " in value.note, key
    else:
      assert value.low <= float(value) <= value.high, key
  if num == 24:
    without = [key for key, value in values.items() if value.low is None]
    assert without == (
      ["speed/parameters", "speed/gflop_per_clip", "speed/peak_mib"]
      if name == "speed"
      else []
    )


HIGHER = {
  *("precision_{}", "recall_{}", "coverage_{}", "memory/latent_recall"),
  *("is24_ucf", "speed/clips_per_second"),
  *("two_sample/frame_loss", "two_sample/motion_loss"),
  *("two_sample/frame_loss_real", "two_sample/motion_loss_real"),
}
NEITHER = {
  *("density_{}", "memory/diversity", "memory/diversity_real"),
  *("memory/near_copies_held_out_features", "memory/nearer_features"),
  *("memory/near_copies_held_out_hashes", "memory/nearer_hashes"),
  *("motion/warping_error", "motion/warping_error_real"),
  *("motion/order", "motion/order_real", "speed/parameters"),
}
LOWER = {
  *("frd_random", "krd_random", "swd", "fid", "kid", "cd_fvd", "jedi"),
  *("fvd24_16f", "kvd24_16f", "fvd_inf24_16f"),
  *("motion/speed_distance", "motion/spectrum_distance"),
  *("motion/arrow_distance", "memory/near_copies_features"),
  *("memory/near_copies_hashes", "speed/ms_per_frame"),
  *("speed/ms_per_single_clip", "speed/ms_to_first_frame"),
  *("speed/gflop_per_clip", "speed/peak_mib"),
  *("two_sample/frame_auc", "two_sample/motion_auc"),
  *("two_sample/frame_auc_real", "two_sample/motion_auc_real"),
  *("motion/still_share", "memory/identity_drift"),
}


def check_direction(name, value):
  """Whoever computes a value says which is better."""
  plain = re.sub("(random|i3d24_16f)$", "{}", name)
  names = {"higher": HIGHER, "": NEITHER, "lower": LOWER}
  assert {name, plain} & names[value.better], (name, value.better)


def test_every_measure_says_what_is_better():
  tables = *paired.ANSWERS.items(), *paired.METRICS.items()
  for name, measure in tables:
    more = any(word in name for word in ("psnr", "ssim", "vmaf"))
    assert measure.better == ("higher" if more else "lower"), name
    assert (measure.unit == "dB") == ("psnr" in name), name
  for name, (unit, better) in oracle._KINDS.items():
    more = name in ("count_accuracy", "class_accuracy", "found")
    less = name in ("law_error", "edge_width")
    assert better == ("higher" if more else "lower" if less else ""), name
    assert unit in ("", "pixels")
  with pytest.raises(ValueError, match="better is 'more'"):
    evals.Value(1.0, better="more")


def test_inception_score_is_shared_by_processes(clips, monkeypatch):
  """Each sees its clips alone; their order, which the splits have, stays."""
  toy("is", monkeypatch)
  evaluator = inception_score.Evaluator(num=24, splits=3, batch=5)
  want = run(evaluator, clips, clips)["is24_ucf"]
  shares = {}

  def gathered(data):
    shares[jax.process_index()] = data
    return [shares.get(i, data) for i in range(2)]

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(distribution, "_gathered", gathered)
  for i in (0, 1, 0):  # From then on each has what the other has sent.
    monkeypatch.setattr(jax, "process_index", lambda i=i: i)
    found = run(evaluator, clips, clips)["is24_ucf"]
  assert [len(distribution._unpacked(shares[i]).rows) for i in (0, 1)] == [
    12
  ] * 2
  assert float(found) == pytest.approx(float(want), rel=1e-6)
  assert found.num == 24 and found.hash == want.hash
  with pytest.raises(ValueError, match="at most 10000"):
    inception_score.Evaluator(num=10_001)


@pytest.mark.parametrize("name", ["jedi", "cd_fvd"])
def test_a_name_without_numbers_says_what_differs(name, clips, monkeypatch):
  module, *_ = toy(name, monkeypatch)
  source = reference(clips[16:])
  found = dict(module.Evaluator(num=24).run(reference(clips), source))
  assert list(found) == [name]
  assert "the paper takes" in found[name].note
  found = module.Evaluator(num=24, frames=8).run(reference(clips), source)
  assert list(dict(found)) == [f"{name}_8f"]
  source = reference(clips[16:], card={"stride": 8})
  found = module.Evaluator(num=24).run(reference(clips), source)
  assert list(dict(found)) == [f"{name}_128f_subsample8f"]


def test_names_are_those_of_papers(clips, monkeypatch):
  evaluator = fvd.Evaluator(frames=16, stride=8)
  names = evaluator.names(2048, reference(clips))
  assert names["kernel"] == "kvd2048_128f_subsample8f"
  names = fvd.Evaluator().names(2048, reference(clips))
  assert names["frechet"] == "fvd2048_16f"
  toy("fvd", monkeypatch)
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
  # With grain: in plain blocks some frequencies are zero, and rounding, which
  # differs from processor to processor, would decide on their bits.
  clips = footage.noise(clips, 8, seed=3)
  train, held_out = clips[:20], clips[20:]
  rng = np.random.default_rng(1)
  fresh = rng.permuted(held_out, axis=0)[:20]
  honest = run(memory.Evaluator(num=20), fresh, held_out, train)
  evaluator = memory.Evaluator(num=20, pairs=3)
  copied = dict(
    evaluator.run(
      reference(footage.noise(train, 2)),
      reference(held_out, train=reference(train)),
    )
  )
  for space in ("features", "hashes"):
    assert float(copied[f"memory/near_copies_{space}"]) >= 0.9
    assert float(copied[f"memory/near_copies_held_out_{space}"]) <= 0.05
    copies = copied[f"memory/near_copies_{space}"]
    assert copies.low < float(copies) <= copies.high
    assert "Wilson" in copies.protocol["estimator"]
    nearer = f"memory/nearer_{space}"
    assert float(copied[nearer]) > 0.95 > float(honest[nearer])
  assert copied["memory/diversity"].num["train"] == 20
  closest = copied["Nearest training clips"]
  assert closest.clips.shape == closest.beside().shape == (3, 8, 16, 16, 3)
  gap = abs(closest.clips.astype(int) - closest.beside())
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
