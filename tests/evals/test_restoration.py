import dataclasses
import types

import numpy as np
import pytest

from vidgan_jax import evals
from vidgan_jax import tasks
from vidgan_jax.evals import paired
from vidgan_jax.evals import perceptual
from vidgan_jax.evals import restoration
from vidgan_jax.measures import fidelity

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
    self.task = tasks.Task(
      prepare=None,
      footage=tasks.Footage(given=None),
      baselines={"half": self._half, "grey": grey},
    )

  def _half(self, given, times):
    self.calls += 1
    assert given["video"].shape[0] == len(times) == 4
    return given["clean"] + 0.1

  def __len__(self):
    return len(self._pairs)

  def prepared(self, indices):
    return [self._pairs[i] for i in indices]


class _Model:
  card, step = {}, 3
  generator = types.SimpleNamespace(base="copy", scale=1)

  def __init__(self, error):
    self._error = error

  def apply(self, given, times, seed=0):
    assert seed == 7
    # Another error in each clip, by its first pixel.
    scale = 1 + 0.2 * given["clean"][:, :1, :1, :1, :1]
    return given["clean"] + self._error * scale


def _numbers(results):
  """The values as numbers, and the exhibit."""
  *values, (_, exhibit) = results
  return {name: float(value) for name, value in values}, exhibit


def _reference(source):
  return evals.Reference(clips=source, task=source.task)


def _run(source, error=0.05, **more):
  evaluator = restoration.Evaluator(seed=7, batch=4, **more)
  return _numbers(evaluator.run(_Model(error), _reference(source)))


def test_figures_are_those_of_each_clip():
  source = _Source()
  values, exhibit = _run(source, num=10)
  pairs = source.prepared(range(10))
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
  evaluator = restoration.Evaluator(seed=7, batch=4, num=10)
  records = dict(evaluator.run(_Model(0.05), _reference(source)))
  over = records["restoration/gain"]
  assert gain.min() < over.low < gain.mean() < over.high < gain.max()
  assert over.num == 10 and over.note == "over half" and over.hash
  own = records["restoration/psnr"]
  assert psnr.min() < own.low < psnr.mean() < own.high < psnr.max()
  # Noise spoils the texture, another brightness does not.
  assert values["restoration/swd/base"] > 10 > values["restoration/swd/half"]
  assert list(values)[:2] == ["restoration/psnr", "restoration/ssim"]
  text = exhibit.text.splitlines()
  assert [line.split()[0] for line in text[2:5]] == ["model", "base", "half"]
  assert f"{psnr.mean():.2f}" in text[2] and "base (copy)" in text[3]
  assert "gain over half: +" in text[-1] and "of 10 clips" in text[-1]
  # Two of the best clips and two of the worst: base, model, target.
  order = np.argsort(-psnr)
  order = [*order[:2], *order[-2:]]
  np.testing.assert_allclose(exhibit.scores, psnr[order], rtol=1e-5)
  for i, panel in zip(order, exhibit.clips()):
    want = np.concatenate([copies[i], mine[i], pairs[i]["target"]], 2)
    want = want.clip(-1, 1) * 127.5 + 127.5
    np.testing.assert_allclose(panel, want, atol=0.501)


def test_only_what_counts_and_clips_where_nothing_does():
  source = _Source(weight=True)
  values, exhibit = _run(source)
  want = np.mean(
    [
      fidelity.psnr(p["given"]["video"].clip(-1, 1), p["target"], p["weight"])
      for p in source.prepared(range(1, 11))
    ]
  )
  assert values["restoration/psnr/base"] == pytest.approx(want, rel=1e-5)
  assert all(np.isfinite(v) for v in values.values())
  assert "of 10 clips" in exhibit.text


def test_classical_answers_are_measured_once():
  source = _Source()
  evaluator = restoration.Evaluator(seed=7, batch=4)
  reference = _reference(source)
  run = lambda error: _numbers(evaluator.run(_Model(error), reference))[0]
  first = run(0.05)
  calls = source.calls
  assert calls == 3
  second = run(0.2)
  assert source.calls == calls
  assert second["restoration/psnr/half"] == first["restoration/psnr/half"]
  assert second["restoration/gain"] < 0 < first["restoration/gain"]


def test_another_source_is_measured_anew():
  evaluator = restoration.Evaluator(seed=7, batch=4)
  run = lambda num: _numbers(
    evaluator.run(_Model(0.1), _reference(_Source(num)))
  )[0]
  many, few = run(11), run(3)
  assert few["restoration/psnr/grey"] != many["restoration/psnr/grey"]
  assert run(11) == many


def test_a_task_without_baselines_has_no_gain():
  source = _Source()
  source.task = dataclasses.replace(source.task, baselines={})
  model = _Model(0.05)
  model.generator = types.SimpleNamespace()
  evaluator = restoration.Evaluator(seed=7)
  values, exhibit = _numbers(evaluator.run(model, _reference(source)))
  assert set(values) == {
    f"restoration/{n}" for n in ("psnr", "ssim", "swd", "temporal")
  }
  assert "gain" not in exhibit.text


def test_a_wrong_size_is_named():
  source = _Source()
  small = lambda given, times: given["video"][:, :, ::2]
  source.task = dataclasses.replace(source.task, baselines={"small": small})
  with pytest.raises(
    ValueError, match=r"small made a clip of shape \(3, 8, 16"
  ):
    _run(source)


# --------------------------------------------------------- what a task asks for


def _asking(*measures, **more):
  source = _Source(**more)
  footage = tasks.Footage(given=None, measures=measures)
  source.task = dataclasses.replace(source.task, footage=footage)
  return source


def test_luma_and_colours_for_tasks_that_ask():
  asked = ("psnr_y", "chroma_error", "psnr_chroma", "temporal_chroma")
  source = _asking(*asked)
  values, exhibit = _run(source)
  for name in asked:
    want = [
      getattr(fidelity, name)(p["given"]["clean"] + 0.1, p["target"])
      for p in source.prepared(range(len(source)))
    ]
    got = values[f"restoration/{name}/half"]
    assert got == pytest.approx(np.mean(want), rel=1e-3, abs=1e-3)
  # Another brightness has the right colours, grey has not.
  error = "restoration/chroma_error"
  assert values[f"{error}/half"] < 1e-3 < 10 < values[f"{error}/grey"]
  assert values["restoration/chroma_best"] == values[f"{error}/half"]
  gain = values["restoration/chroma_gain"]
  assert gain == pytest.approx(values[f"{error}/half"] - values[error])
  _, head, model, *_, note = exhibit.text.splitlines()
  assert "PSNR-Y dB" in head and "chroma" in head
  assert f"{values[error]:.2f}" in model
  assert "chroma error below that of half: " in note and "levels [" in note
  # Nobody else is bothered.
  assert not [n for n in _run(_Source())[0] if "chroma" in n or "_y" in n]


@pytest.mark.parametrize("error, apart", [(0.05, True), (0.1, False)])
def test_a_gain_whose_interval_holds_zero_is_no_verdict(error, apart):
  """`half` is off by 0.1 everywhere, the model by so much in the mean."""
  evaluator = restoration.Evaluator(seed=7, batch=4)
  *values, (_, exhibit) = evaluator.run(_Model(error), _reference(_Source()))
  gain = dict(values)["restoration/gain"]
  assert (0 < gain.low or gain.high < 0) == apart
  for text in (gain.note, exhibit.text):
    assert (evals.NOT_APART in text) != apart


def test_lpips_where_its_weights_are(monkeypatch):
  assert "restoration/lpips" not in _run(_Source())[0]
  monkeypatch.setattr(perceptual, "measurable", lambda frame: frame == (S, S))
  far = lambda video, target, weight: np.abs(video - target).mean()
  measure = dataclasses.replace(paired.ANSWERS["lpips"], function=far)
  monkeypatch.setitem(paired.ANSWERS, "lpips", measure)
  values, exhibit = _run(_Source())
  assert values["restoration/lpips"] < values["restoration/lpips/half"]
  assert values["restoration/lpips/half"] == pytest.approx(0.1, abs=0.01)
  assert "LPIPS" in exhibit.text


class _Future(_Model):
  """What it makes of the frames to come depends on its noise."""

  def __init__(self, errors, noise=True):
    self._errors, self._noise = errors, noise
    self.generator = types.SimpleNamespace(
      base="copy", scale=1, noise_spec=lambda s: {"z": (2,)} if noise else {}
    )

  def apply(self, given, times, seed=0):
    # Clips take turns in which sample suits them.
    clip = np.round(abs(given["clean"][:, 0, 0, 0, 0]) * 1e4).astype(int)
    errors = np.array(self._errors)[(clip + seed) % len(self._errors)]
    later = np.arange(T)[:, None, None, None] / 10
    return given["clean"] + errors[:, None, None, None, None] + later


def _predicting(known=1):
  """Clips whose frames are to be predicted after the first `known`."""
  source = _asking("psnr_ahead")
  for pair in source._pairs:
    pair["weight"] = np.ones((T, S, S, 1), np.float32)
    pair["weight"][:known] = 0
  return source


@pytest.mark.parametrize("known", [1, 2])
def test_predictions_are_told_by_how_far_ahead_they_are(known):
  evaluator = restoration.Evaluator(seed=7, batch=4)
  values, exhibit = _numbers(
    evaluator.run(_Future([0.1]), _reference(_predicting(known)))
  )
  psnr = lambda error: 10 * np.log10(4 / error**2)
  for i in range(1, T - known + 1):
    got = values[f"restoration/psnr_{i}"]
    # Values beyond white are clipped, which makes them a little better.
    assert got == pytest.approx(psnr(0.1 + (known - 1 + i) / 10), abs=0.5)
    half = values[f"restoration/psnr_{i}/half"]
    assert half == pytest.approx(psnr(0.1), abs=0.1)
  assert f"restoration/psnr_{T - known + 1}" not in values
  block = exhibit.text.splitlines()[6:11]
  steps = [str(i) for i in range(1, T - known + 1)]
  assert block[0].split() == ["PSNR", "dB,", "frames", "ahead", *steps]
  assert [line.split()[0] for line in block[1:]] == [
    *("model", "base", "half", "grey")
  ]
  assert f"{values['restoration/psnr_1']:.2f}" in block[1]


def test_the_best_of_several_futures():
  errors = [0.3, 0.05, 0.2]
  source = _reference(_predicting())
  evaluator = restoration.Evaluator(seed=7, batch=4, num_samples=3)
  values, exhibit = _numbers(evaluator.run(_Future(errors), source))
  alone = lambda e: _numbers(
    restoration.Evaluator(seed=7, batch=4).run(_Future([e]), source)
  )[0]
  best = alone(0.05)
  # All three were drawn of each clip, so the best is found whichever is first.
  for name in ("psnr", "psnr_1", "psnr_2"):
    got = values[f"restoration/{name}_best_of_3"]
    assert got == pytest.approx(best[f"restoration/{name}"], abs=1e-6)
  assert alone(0.3)["restoration/psnr"] < values["restoration/psnr"]
  assert values["restoration/psnr"] < values["restoration/psnr_best_of_3"]
  assert "best of 3 samples of each clip" in exhibit.text.splitlines()[-1]
  rows = [line.split("  ")[1] for line in exhibit.text.splitlines()[7:9]]
  assert rows == ["model", "best of 3"]
  with pytest.raises(ValueError, match="num_samples is 3.*noise_dim"):
    list(evaluator.run(_Future(errors, noise=False), source))
