"""Clips as evaluators read them."""

import numpy as np
import pytest
import test_pipeline

from vidgan_jax.data import reference
from vidgan_jax.data import signals


def test_clips_are_cut():
  source = test_pipeline.Source()
  source.world = {"resolution": 8}
  clips = reference.Clips(source, "first(3, stride=2) | value_range(-1, 1)")
  assert len(clips) == 7 and clips.num_classes == 3
  assert clips.world == {"resolution": 8}
  got = clips.read([6, 1])
  assert [c["video"][0, 0, 0, 0] for c in got] == [6, 1]
  assert got[0]["video"].dtype == np.uint8
  assert got[0]["video"][:, 0, 0, 1].tolist() == [0, 2, 4]
  assert set(got[0]) == {"video", "times", "label", "caption"}
  assert got[0]["label"] == 0
  with pytest.raises(IndexError, match="Clip 7 does not exist.* 7 clips"):
    clips.read([7])
  assert (
    reference.Clips(test_pipeline.Source(), "").read([0])[0]["video"].shape[0]
    == 9
  )
  assert reference.Clips(test_pipeline.Source(), "").world is None


def test_clips_are_the_same_each_time():
  make_clips = lambda seed: reference.Clips(
    test_pipeline.Source(), "clip(3)", seed=seed
  )
  a, b = make_clips(0).read(range(7)), make_clips(0).read(range(6, -1, -1))
  test_pipeline.equal(a, b[::-1])
  assert any(
    not np.array_equal(x["video"], y["video"])
    for x, y in zip(a, make_clips(1).read(range(7)))
  )


def test_errors():
  with pytest.raises(signals.DataError, match="clip 2: .*4 frames.*needs 5"):
    reference.Clips(test_pipeline.Source(bad={2: 4}), "first(5)").read([2])
  with pytest.raises(signals.DataError, match="clip 2 .* is 2, out of range"):
    reference.Clips(test_pipeline.Source(num_classes=2), "first(5)").read([2])
  source = test_pipeline.Source(bad={0: 4})
  source.lengths = [4] + [9] * 6
  clips = reference.Clips(source, "first(5)")
  assert (len(clips), clips.dropped) == (6, 1)
  assert clips.read([0])[0]["video"][0, 0, 0, 0] == 1
  with pytest.raises(signals.DataError, match="longest has 9 frames"):
    reference.Clips(source, "first(50)")
