"""The language of clip ops: what can be read, and what makes no sense."""

import pytest

from vidgan_jax import calls
from vidgan_jax import errors
from vidgan_jax.data import oplang


def test_parse():
  text = "clip(16, stride=2) | crop(64) | flip_lr | value_range(-1, 1.5)"
  assert calls.parse(text, "the ops", text) == [
    ("clip", (16,), {"stride": 2}),
    ("crop", (64,), {}),
    ("flip_lr", (), {}),
    ("value_range", (-1, 1.5), {}),
  ]
  assert calls.parse(" ", "the ops", text) == []


@pytest.mark.parametrize(
  "text",
  [
    "clip(16",
    "clip(16) | | flip_lr",
    "clip(n)",
    "clip(*[16])",
    "clip(**{})",
    "__import__('os').system('true')",
    "clip(16)(3)",
    "clip(2 + f())",
    "3",
    "clip(16) or flip_lr",
  ],
)
def test_ops_that_cannot_be_read(text):
  with pytest.raises(errors.UserError):
    oplang.bind(text)


def test_bind():
  assert oplang.bind("clip(16) | crop(3, width=4) | flip_lr()") == [
    ("clip", {"frames": 16, "stride": 1}),
    ("crop", {"height": 3, "width": 4}),
    ("flip_lr", {}),
  ]
  for text, wanted in [
    ("flp_lr", "'flip_lr'"),
    ("clip(3, strid=2)", "'stride'"),
    ("clip()", r"clip\(frames, stride=1\)"),
    ("clip(1, 2, 3)", r"clip\(frames, stride=1\)"),
    ("clip(1, frames=3)", r"clip\(frames, stride=1\)"),
    ("_take(3)", "unknown op"),
    ("build(3)", "unknown op"),
  ]:
    with pytest.raises(errors.UserError, match=wanted):
      oplang.bind(text)


@pytest.mark.parametrize(
  "text, wanted",
  [
    ("clip(0)", "frames=0"),
    ("clip(2.5)", "whole number"),
    ("clip(True)", "whole number"),
    ("clip(4, stride=0)", "stride=0"),
    ("sparse(5, 4)", "sparse.*window of 4"),
    ("clip(4) | first(2)", "more than once"),
    ("value_range(1, -1)", "lo < hi"),
    ("value_range('a', 1)", "a number"),
    ("fps(0)", "above 0"),
    ("shift_time(-1)", "0 or more"),
    ("crop(4, 0)", "width=0"),
    ("flop", "'unknown op|unknown op"),
  ],
)
def test_ops_that_make_no_sense(text, wanted):
  with pytest.raises(errors.UserError, match=wanted):
    oplang.plan(text)


def test_min_frames():
  count = lambda text: oplang.min_frames(oplang.plan(text))
  assert count("clip(4, stride=3)") == 10
  assert count("resize(8) | sparse(3, 16)") == 16
  assert count("flip_lr") == 1
  assert count("fps(4) | clip(4)") == 1  # only the clip's times can say
