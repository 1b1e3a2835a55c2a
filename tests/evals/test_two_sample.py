"""The trained judge: it ranks as the eye does, twice alike."""

import functools
import math

import footage
import numpy as np
import pytest

from vidgan_jax import evals
from vidgan_jax.data import sprites
from vidgan_jax.evals import memory
from vidgan_jax.evals import motion
from vidgan_jax.evals import two_sample
from vidgan_jax.nets import classifier

COMPUTES = True
JUDGE = two_sample.Evaluator(num=24, steps=40)


@functools.cache
def world():
  """A reference of 24 clips (8, 24, 24, 3), and 24 others."""
  source = sprites.make("test", resolution=24, frames=8, fps=8, size=48)
  video = np.stack([example["video"] for example in source.read(range(48))])
  return evals.Reference(clips=footage.Clips(video[::2])), video[1::2]


def judged(clips, judge=JUDGE, real=None):
  fake = evals.Reference(clips=footage.Clips(clips))
  values = dict(judge.run(fake, real or world()[0]))
  return {name.split("/")[-1]: value for name, value in values.items()}


@functools.cache
def undamaged():
  return judged(world()[1])


def test_stages_of_a_run_rank_as_by_eye():
  """From a blur that stands to sharp clips that move."""
  clips = world()[1]
  values = [
    judged(footage.frozen(footage.blur(clips, 4))),
    judged(footage.blur(clips, 1.5)),
    undamaged(),
  ]
  for name in ("frame_loss", "motion_loss"):
    losses = [float(value[name]) for value in values]
    assert footage.rises(losses), (name, losses)
  assert float(values[0]["frame_auc"]) > 0.9
  assert float(values[1]["frame_auc"]) > float(values[2]["frame_auc"])


def test_motion_and_appearance_are_told_apart():
  """Standing clips of right frames are right frames; nothing moves less."""
  real, clips = world()
  standing = judged(footage.frozen(clips))
  mixed = judged(footage.shuffled(clips))
  assert float(standing["motion_auc"]) > 0.98
  ranks = [float(v["motion_loss"]) for v in (standing, mixed, undamaged())]
  assert ranks[0] == min(ranks), ranks
  # Their order is nothing that a single frame could say.
  for values in (standing, mixed):
    apart = float(values["frame_auc"]) - float(undamaged()["frame_auc"])
    assert abs(apart) < 0.2
  shares = [
    float(judged(video, motion.Evaluator(num=24), real)["still_share"])
    for video in (footage.frozen(clips), clips)
  ]
  assert shares[0] == 1 and shares[1] < 0.2


def test_the_same_numbers_twice():
  again = judged(world()[1])
  for name, value in undamaged().items():
    assert again[name].record() == value.record(), name
  first = undamaged()["frame_auc"]
  assert first.low <= float(first) <= first.high
  assert "steps" in first.protocol and first.hash


def test_halves_are_fair_where_classes_come_in_turn():
  """A network must not be asked about classes that it has not seen."""
  for half in two_sample._halves(40, 1):
    assert sorted(np.unique(half % 4)) == [0, 1, 2, 3] and len(half) == 20


def test_real_beside_real():
  real, clips = world()
  assert "half of the real clips" in undamaged()["frame_auc_real"].note
  train = evals.Reference(clips=footage.Clips(footage.noise(clips, 60)))
  known = evals.Reference(clips=real.clips, train=train)
  values = judged(clips, real=known)
  assert "training clips" in values["frame_auc_real"].note
  assert float(values["frame_auc_real"]) > float(values["frame_auc"])


def test_what_networks_see():
  rng = np.random.default_rng(0)
  clip = rng.integers(0, 256, (1, 3, 96, 128, 3), np.uint8)
  seen = classifier.looks(clip)
  assert seen["frame"].shape == (1, 3, 64, 85, 3)
  want = clip[0, :, :96, :].reshape(3, 96, 128, 3).mean((1, 2))
  got = seen["frame"][0].mean((1, 2))
  np.testing.assert_allclose(got, want, atol=1)
  assert seen["motion"].shape == (1, 2, 24, 32)
  # What stands still is nothing, and another contrast is the same motion.
  still = classifier.looks(np.repeat(clip[:, :1], 3, 1))["motion"]
  assert not still.any()
  assert list(classifier.looks(clip[:, :1])) == ["frame"]


def test_few_or_small_clips():
  few = evals.Reference(clips=footage.Clips(world()[1][:7]))
  (value,) = judged(world()[1], real=few).values()
  assert math.isnan(float(value)) and "8 clips of each" in value.note
  with pytest.raises(ValueError, match="from 16 x 16 on"):
    classifier.looks(np.zeros((1, 2, 15, 16, 3), np.uint8))


def test_who_becomes_another_is_found():
  """The first half of one training clip and the second of another."""
  real, clips = world()
  train, held_out = clips[:12], clips[12:]
  half = clips.shape[1] // 2
  morphs = np.concatenate([train[:, :half], np.roll(train, 1, 0)[:, half:]], 1)
  known = evals.Reference(
    clips=footage.Clips(held_out),
    train=evals.Reference(clips=footage.Clips(train)),
  )
  judge = memory.Evaluator(num=12)
  drift = [
    float(judged(x, judge, known)["identity_drift"]) for x in (train, morphs)
  ]
  assert drift[0] == 0 and drift[1] > 0.8
