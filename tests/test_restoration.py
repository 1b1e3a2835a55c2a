import types

import numpy as np
import pytest

from vidgan_jax.evals import fidelity
from vidgan_jax.evals import restoration

T, S = 3, 16


class _Source:
  """Noisy clips; the first baseline is good, the second bad."""

  def __init__(self, num=11, weight=False):
    rng = np.random.default_rng(0)
    self.calls = 0
    self._pairs = []
    for i in range(num):
      target = rng.uniform(-0.9, 0.9, (T, S, S, 3)).astype(np.float32)
      noise = rng.standard_normal(target.shape).astype(np.float32)
      pair = {
        "given": {"video": target + 0.2 * noise, "clean": target},
        "target": target,
        "times": np.arange(T, dtype=np.float32) / 25,
      }
      if weight:
        pair["weight"] = (rng.random((T, S, S, 1)) < 0.5).astype(np.float32)
        pair["weight"] *= i > 0  # Nothing counts in the first.
      self._pairs.append(pair)
    grey = lambda given, times: 0 * given["video"]
    self.task = types.SimpleNamespace(
      baselines={"half": self._half, "grey": grey}
    )

  def _half(self, given, times):
    self.calls += 1
    assert given["video"].shape[0] == len(times) == 4
    return given["clean"] + 0.1

  def __len__(self):
    return len(self._pairs)

  def pairs(self, indices):
    return [self._pairs[i] for i in indices]


class _Model:
  generator = types.SimpleNamespace(base="copy", scale=1)

  def __init__(self, error):
    self._error = error

  def apply(self, given, times, seed=0):
    assert seed == 7
    # Another error in each clip, by its first pixel.
    scale = 1 + 0.2 * given["clean"][:, :1, :1, :1, :1]
    return given["clean"] + self._error * scale


def _run(source, error=0.05, **more):
  evaluator = restoration.Evaluator(seed=7, batch=4, **more)
  return evaluator, dict(evaluator.run(_Model(error), source))


def test_figures_are_those_of_each_clip():
  source = _Source()
  evaluator, values = _run(source, num=10)
  pairs = source.pairs(range(10))
  given = [p["given"] for p in pairs]
  copies = [g["video"].clip(-1, 1) for g in given]
  for kind in ("psnr", "ssim", "temporal"):
    name = "temporal_error" if kind == "temporal" else kind
    fn = getattr(fidelity, name)
    mean = lambda videos, fn=fn: np.mean(
      [fn(v, p["target"]) for v, p in zip(videos, pairs)]
    )
    base, half = mean(copies), mean([g["clean"] + 0.1 for g in given])
    assert values[f"restoration/{kind}/base"] == pytest.approx(base, rel=1e-5)
    assert values[f"restoration/{kind}/half"] == pytest.approx(
      half, rel=1e-3, abs=1e-3
    )
  mine = _Model(0.05).apply(
    {"clean": np.stack([g["clean"] for g in given])}, None, 7
  )
  psnr = np.array([fidelity.psnr(v, p["target"]) for v, p in zip(mine, pairs)])
  assert values["restoration/psnr"] == pytest.approx(psnr.mean(), rel=1e-5)
  # The gain is over the best.
  other = [
    fidelity.psnr(g["clean"] + 0.1, p["target"]) for g, p in zip(given, pairs)
  ]
  gain = psnr - other
  assert values["restoration/best"] == values["restoration/psnr/half"]
  assert values["restoration/gain"] == pytest.approx(gain.mean(), rel=1e-3)
  low, high = values["restoration/gain_low"], values["restoration/gain_high"]
  assert gain.min() < low < gain.mean() < high < gain.max()
  # Noise spoils the texture, another brightness does not.
  assert values["restoration/swd/base"] > 10 > values["restoration/swd/half"]
  assert list(values)[:2] == ["restoration/psnr", "restoration/ssim"]
  text = evaluator.text.splitlines()
  assert [line.split()[0] for line in text[1:4]] == ["model", "base", "half"]
  assert f"{psnr.mean():.2f}" in text[1] and "base (copy)" in text[2]
  assert "gain over half: +" in text[-1] and "of 10 clips" in text[-1]


def test_only_what_counts_and_clips_where_nothing_does():
  source = _Source(weight=True)
  evaluator, values = _run(source)
  want = np.mean(
    [
      fidelity.psnr(p["given"]["video"].clip(-1, 1), p["target"], p["weight"])
      for p in source.pairs(range(1, 11))
    ]
  )
  assert values["restoration/psnr/base"] == pytest.approx(want, rel=1e-5)
  assert all(np.isfinite(v) for v in values.values())
  assert "of 10 clips" in evaluator.text


def test_classical_answers_are_measured_once():
  source = _Source()
  evaluator, first = _run(source)
  calls = source.calls
  assert calls == 3
  second = dict(evaluator.run(_Model(0.2), source))
  assert source.calls == calls
  assert second["restoration/psnr/half"] == first["restoration/psnr/half"]
  assert second["restoration/gain"] < 0 < first["restoration/gain"]


def test_a_task_without_baselines_has_no_gain():
  source = _Source()
  source.task.baselines = {}
  model = _Model(0.05)
  model.generator = types.SimpleNamespace()
  evaluator = restoration.Evaluator(seed=7)
  values = dict(evaluator.run(model, source))
  assert set(values) == {
    f"restoration/{n}" for n in ("psnr", "ssim", "swd", "temporal")
  }
  assert "gain" not in evaluator.text


def test_a_wrong_size_is_named():
  source = _Source()
  source.task.baselines = {
    "small": lambda given, times: given["video"][:, :, ::2]
  }
  with pytest.raises(
    ValueError, match=r"small made a clip of shape \(3, 8, 16"
  ):
    _run(source)


def test_the_interval_covers():
  """95 % of the intervals hold the true mean."""
  rng = np.random.default_rng(0)
  hits = 0
  for i in range(200):
    values = rng.normal(1.0, 2.0, 40)
    low, high = restoration.interval(values, 400, i)
    hits += low < 1.0 < high
    assert high - low == pytest.approx(4 * values.std() / 40**0.5, rel=0.3)
  assert 0.88 < hits / 200 < 0.98
  # Clips that are not numbers are left out.
  assert restoration.interval(np.array([1, np.nan, 1]), 10, 0) == (1, 1)
