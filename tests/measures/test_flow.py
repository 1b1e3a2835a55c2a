"""Flow, and what is measured along it, on motion that is known."""

import footage
import numpy as np
import pytest

from vidgan_jax.measures import flow


def moving(speed=2, frames=4, size=64):
  """Smooth noise that moves to the right, uint8."""
  rng = np.random.default_rng(0)
  wide = rng.integers(0, 256, (size, size + speed * frames, 3)).astype(np.uint8)
  wide = footage.blur(wide[None], 2)[0].astype(float)
  wide = ((wide - wide.mean()) * 6 + 128).clip(0, 255).astype(np.uint8)
  start = speed * frames
  return np.stack(
    [wide[:, start - speed * t :][:, :size] for t in range(frames)]
  )


def known(speed):
  """A flow that says what `moving` does, either way."""

  def function(a, b):
    forward = abs(a[:, :-speed].astype(float) - b[:, speed:]).mean()
    backward = abs(b[:, :-speed].astype(float) - a[:, speed:]).mean()
    out = np.zeros((*a.shape[:2], 2), np.float32)
    out[..., 0] = speed if forward < backward else -speed
    return out

  return function


def test_farneback_and_warp():
  pytest.importorskip("cv2")
  video = moving()
  there = flow.farneback(video[0], video[1])
  inner = (slice(12, -12), slice(12, -12))
  np.testing.assert_allclose(there[inner].mean((0, 1)), [2, 0], atol=0.1)
  back = flow.warp(video[1], np.full((64, 64, 2), [2.0, 0.0]))
  np.testing.assert_array_equal(back[:, :-2], video[0][:, :-2])
  # Between the pixels, and beyond the border.
  ramp = np.broadcast_to(np.arange(8.0)[:, None], (6, 8, 1))
  half = flow.warp(ramp, np.full((6, 8, 2), [0.25, -9.0]))
  want = np.minimum(np.arange(8) + 0.25, 7)
  np.testing.assert_allclose(half[..., 0], np.tile(want, (6, 1)))


def test_what_is_visible():
  forward = np.zeros((16, 16, 2))
  forward[..., 0] = 3
  seen = flow.visible(forward, -forward)
  assert seen[:, :13].all() and not seen[:, 13:].any()  # It leaves.
  # Flow that does not return; there |f + b|^2 = 9 > 0.01 (9 + 0) + 0.5.
  assert not flow.visible(forward, 0 * forward).any()
  forward[:, 8:] = 0  # A border of motion.
  back = -forward
  back[:, :11] = [-3, 0]
  seen = flow.visible(forward, back)
  assert not seen[:, 7].any() and seen[:, :7].all() and seen[:, 12:].all()


def test_warping_error():
  video = moving()
  assert flow.warping_error(video, flow=known(2)) == 0
  darker = video // 2 + 20
  darker[1] += 51  # One frame of four is brighter by a fifth.
  got = flow.warping_error(darker, video, known(2))
  assert got == pytest.approx(2 / 3 * 3 * 0.2**2)
  lost = lambda a, b: np.full((*a.shape[:2], 2), 99.0)
  assert np.isnan(flow.warping_error(video, flow=lost))
  with pytest.raises(ValueError, match="aligned"):
    flow.warping_error(video, video[:2], known(2))


def test_motion_that_differs():
  fake, target = moving(3), moving(2)
  pick = lambda a, b: known(
    2 if any(np.array_equal(a, f) for f in target) else 3
  )(a, b)
  assert flow.tof(fake, target, pick) == pytest.approx(1)
  assert flow.tof(target, target, pick) == 0
  assert np.isnan(flow.tof(fake[:1], target[:1], pick))
