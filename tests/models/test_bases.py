import pathlib

import av
import footage
import jax
import numpy as np
from PIL import Image
from PIL import ImageDraw
import pytest

from vidgan_jax import tasks
from vidgan_jax.models import bases

TIMES = np.array([[0.0, 0.04, 0.08, 0.16, 0.2, 0.24]], np.float32)


def _clip(t=6, h=32, w=40, seed=0):
  x = np.random.default_rng(seed).uniform(-1, 1, (1, t, h, w, 3))
  return x.astype(np.float32)


def _run(name, given, times=TIMES, scale=1):
  base = jax.jit(lambda g, t: bases.BASES[name](g, t, scale))
  return np.asarray(base(given, times))


def _frames(*known):
  """A mask (1, T, 32, 40, 1) of which these frames are known."""
  mask = np.ones((1, 6, 32, 40, 1), np.float32)
  mask[:, list(known)] = 0
  return mask


# -------------------------------------------------------------------- lanczos


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lanczos_is_pillows(scale):
  video = _clip(2, 11, 14)
  big = _run("lanczos", {"video": video}, TIMES, scale)
  for t in range(2):
    for c in range(3):
      picture = Image.fromarray(video[0, t, :, :, c], mode="F")
      want = picture.resize((14 * scale, 11 * scale), Image.LANCZOS)
      np.testing.assert_allclose(big[0, t, :, :, c], want, atol=2e-6)


def test_lanczos_keeps_a_constant():
  video = np.full((1, 1, 5, 6, 3), 0.7, np.float32)
  big = _run("lanczos", {"video": video}, TIMES, 4)
  np.testing.assert_allclose(big, 0.7, atol=1e-6)


def test_copy_cannot_enlarge():
  with pytest.raises(ValueError, match="set scale to 1, or base to 'lanczos'"):
    bases.copy({"video": _clip()}, None, 2)


# -------------------------------------------------------------------- in light


def test_levels_undo_what_light_did():
  """A darker, flatter and tinted copy gets the same brightness back."""
  clip = _clip(3)[0]
  clip[:, ::2] = np.tanh(3 * clip[:, ::2])

  def run(video, region=np.s_[:]):
    given = {"video": video[None], "vector": tasks.statistics(video)[None]}
    given["video"] = given["video"][:, :, region]
    return _run("levels", given, TIMES[:, :3])[0]

  want = run(clip)
  for gain, shift in ((0.3, -0.5), (1.5, 0.2)):
    np.testing.assert_allclose(run(gain * clip + shift), want, atol=1e-4)
  # In one frame alone, that frame alone changes.
  dim = np.where(np.arange(3)[:, None, None, None] == 1, clip / 2, clip)
  np.testing.assert_allclose(run(dim), want, atol=1e-4)
  # All channels alike: a grey pixel stays grey.
  grey = clip.copy()
  grey[:, 5, 5] = 0.3
  assert np.ptp(run(grey)[:, 5, 5], -1).max() < 1e-6
  # A tile is that of the whole.
  np.testing.assert_array_equal(run(clip, np.s_[8:20]), want[:, 8:20])
  # Of cells that are even, the extremes go where those of footage are.
  steps = np.linspace(-0.4, 0.2, 16).repeat(16).reshape(1, 16, 16, 1)
  even = np.broadcast_to(steps, (3, 16, 16, 3)).astype(np.float32)
  inside = run(even)
  assert -0.8 <= inside.min() < -0.6 and 0.6 < inside.max() <= 0.8
  with pytest.raises(ValueError, match="choose a task that gives it"):
    bases.levels({"video": clip[None]}, TIMES[:, :3])


def test_tone_is_a_curve_of_light():
  x = _clip() * 1.1
  tone = jax.jit(bases.tone)
  np.testing.assert_array_equal(tone(x, np.zeros(5, np.float32)), x)
  # In NumPy, from [0, 1] to [0, 1]: black from 0.1 to 0.15, a square, half the
  # contrast; then three quarters of the colour.
  z = (x.astype(np.float64) + 1) / 2 - 0.1
  z = 0.5 * np.sign(z) * z**2 + 0.15
  luma = z @ np.array([0.2126, 0.7152, 0.0722])
  z = luma[..., None] + 0.75 * (z - luma[..., None])
  curve = np.array([0.1, np.log(2), np.log(0.5), 0.05, np.log(0.75)])
  np.testing.assert_allclose(tone(x, curve), 2 * z - 1, atol=3e-6)
  # A root has a slope everywhere.
  slope = jax.grad(lambda c: tone(np.full((1, 3), -1.0), c).sum())(-curve)
  assert np.isfinite(slope).all()


# -------------------------------------------------------------------- in time


def _hold(video, mask):
  out = video.astype(np.float64).copy()
  for b, t, y, x in np.argwhere(mask[..., 0]):
    before = [i for i in range(t) if not mask[b, i, y, x, 0]]
    if before:
      out[b, t, y, x] = video[b, before[-1], y, x]
  return out


def _temporal(video, mask, times, reach):
  out = video.astype(np.float64).copy()
  t_all = np.arange(video.shape[1])
  for b, t, y, x in np.argwhere(mask[..., 0]):
    known = mask[b, :, y, x, 0] == 0
    near = t_all[known & (abs(t_all - t) <= reach)]
    before, after = near[near < t], near[near > t]
    if len(before) and len(after):
      i, j = before[-1], after[0]
      share = (times[b, t] - times[b, i]) / (times[b, j] - times[b, i])
      out[b, t, y, x] = (1 - share) * video[b, i, y, x] + share * video[
        b, j, y, x
      ]
    elif len(before):
      out[b, t, y, x] = video[b, before[-1], y, x]
    elif len(after):
      out[b, t, y, x] = video[b, after[0], y, x]
  return out


@pytest.mark.parametrize("reach", [1, 8])
def test_in_time_against_loops(reach, monkeypatch):
  monkeypatch.setattr(bases, "REACH", reach)
  video = _clip(6, 4, 5)
  rng = np.random.default_rng(1)
  mask = (rng.random((1, 6, 4, 5, 1)) < 0.7).astype(np.float32)
  given = {"video": video * (1 - mask), "mask": mask}
  np.testing.assert_allclose(
    _run("temporal", given),
    _temporal(given["video"], mask, TIMES, reach),
    atol=1e-6,
  )
  np.testing.assert_allclose(
    _run("hold", given), _hold(given["video"], mask), atol=1e-6
  )


def test_temporal_is_exact_on_straight_motion():
  slope = _clip(1)
  video = slope * TIMES[..., None, None, None]
  mask = _frames(0, 3, 5)
  given = {"video": video * (1 - mask), "mask": mask}
  np.testing.assert_allclose(_run("temporal", given), video, atol=1e-6)


def test_a_known_clip_is_left_alone():
  video = _clip()
  for name in ("fill", "temporal", "hold"):
    for given in (
      {"video": video},
      {"video": video, "mask": _frames(*range(6))},
    ):
      np.testing.assert_array_equal(_run(name, given), video)


def test_context_of_temporal():
  video, mask = _clip(), _frames(0, 3, 5)
  given = {"video": video, "mask": mask}
  seen = jax.jit(lambda g: bases.context("temporal", g, TIMES))(given)
  before, after, share = np.split(np.asarray(seen), [3, 6], -1)
  np.testing.assert_array_equal(before[:, 2], video[:, 0])
  np.testing.assert_array_equal(after[:, 2], video[:, 3])
  np.testing.assert_allclose(share[0, 2], 0.5, atol=1e-6)
  np.testing.assert_allclose(share[0, 4], 0.5, atol=1e-6)
  np.testing.assert_array_equal(share[0, [0, 3, 5]], 0)


def test_context_of_hold():
  video, mask = _clip(), _frames(0, 1, 2)
  given = {"video": video, "mask": mask}
  seen = jax.jit(lambda g: bases.context("hold", g, TIMES))(given)
  previous, since = np.split(np.asarray(seen), [3], -1)
  for t in (3, 4, 5):
    np.testing.assert_array_equal(previous[:, t], video[:, 1])
    np.testing.assert_allclose(since[0, t], (TIMES[0, t] - 0.08) / 0.04, 1e-4)
  np.testing.assert_array_equal(previous[:, 2], video[:, 1])
  assert bases.context("copy", given, TIMES) is None
  assert bases.context("hold", {"video": video}, TIMES) is None


def test_changing_against_a_loop():
  video, mask = _clip(), _frames(0, 3, 5)
  video[:, 3] = video[:, 0]
  video[:, 3, 10, 20] += (0.02, -0.05, 0)
  video[:, 5] = video[:, 3]
  video[:, 5, 0, 39] += 1
  found = jax.jit(lambda g: bases.changing(g, TIMES, 2.5))(
    {"video": video, "mask": mask}
  )
  wanted = np.zeros_like(mask)
  wanted[:, 1:3, 7:14, 17:24] = 0.05
  wanted[:, 4, :4, 36:] = 1
  wanted = wanted**2 / (wanted**2 + 0.3**2)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


# ----------------------------------------------------------------------- fill


def test_fill_keeps_what_is_known_and_continues_it():
  y, x = np.mgrid[:32, :40] / 40
  picture = np.stack([x, y, 0.3 * x + 0.5 * y], -1).astype(np.float32)
  video = np.broadcast_to(picture, (1, 6, 32, 40, 3))
  mask = np.zeros((1, 6, 32, 40, 1), np.float32)
  mask[:, :, 12:20, 14:24] = 1
  given = {"video": video * (1 - mask), "mask": mask}
  full = _run("fill", given)
  known = np.broadcast_to(mask == 0, video.shape)
  np.testing.assert_array_equal(full[known], video[known])
  error = abs(full - video)[~known]
  # The mean of the frame, the plain guess, is off by far more.
  plain = abs(video.mean((2, 3), keepdims=True) - video)[~known]
  assert error.max() < 0.15 and error.mean() < 0.5 * plain.mean()
  # No edge where the hole begins.
  assert abs(np.diff(full, axis=3)).max() < 0.1


def test_fill_of_a_lost_frame_is_in_time():
  video, mask = _clip(), _frames(0, 1, 3, 4, 5)
  given = {"video": video * (1 - mask), "mask": mask}
  np.testing.assert_allclose(
    _run("fill", given)[:, 2],
    _run("temporal", given)[:, 2],
    atol=1e-6,
  )


def test_fill_far_inside_a_large_hole_is_in_time():
  video = np.array(_clip(3, 32, 320))
  mask = np.zeros((1, 3, 32, 320, 1), np.float32)
  mask[:, 1, :, :256] = 1
  given = {"video": video * (1 - mask), "mask": mask}
  full = _run("fill", given, TIMES[:, :3])
  want = (video[:, 0] + video[:, 2]) / 2
  np.testing.assert_allclose(full[:, 1, :, :128], want[:, :, :128], atol=1e-5)
  assert abs(full[:, 1, :, 224:256] - want[:, :, 224:256]).max() > 0.1
  assert abs(full[:, 1, :, 224:256]).max() < 1


@footage.needed
def test_paint_spreads_colours_and_keeps_brightness():
  video = _clip()
  weights = np.array([0.2126, 0.7152, 0.0722], np.float32)
  luma = np.repeat((video @ weights)[..., None], 3, -1)
  colour = np.array([0.3, -0.1, 0.1], np.float32)
  colour -= colour @ weights
  mask = np.ones((1, 6, 32, 40, 1), np.float32)
  # Without a hint it is grey; one tells all of its frame and of those near.
  gray = _run("paint", {"video": luma, "mask": mask})
  np.testing.assert_allclose(gray, luma, atol=1e-6)
  mask[0, 2, 10, 30] = 0
  given = luma + (1 - mask) * colour
  np.testing.assert_allclose(
    _run("paint", {"video": given, "mask": mask}), luma + colour, atol=1e-5
  )
  # Two mix, and brightness is nobody's business.
  mask[0, 2, 20, 5] = 0
  given[0, 2, 20, 5] = luma[0, 2, 20, 5] - colour
  out = _run("paint", {"video": given, "mask": mask})
  np.testing.assert_allclose(out @ weights, video @ weights, atol=1e-5)
  known = mask[..., 0] == 0
  np.testing.assert_allclose(out[known], given[known], atol=1e-6)
  red = (out - luma)[0, 2, ..., 0]
  assert red[10, 31] > 0.1 * colour[0] > 0 > red[20, 6]


@footage.needed
def test_fill_is_no_worse_than_opencvs():
  """Moving strokes over real video; PSNR in the hole, mean over clips."""
  cv2 = pytest.importorskip("cv2")
  rng = np.random.default_rng(0)
  found = sorted(pathlib.Path(footage.REAL).glob("scenes/*.mp4"))
  assert found
  gains = []
  for path in found:
    with av.open(str(path)) as file:
      frames = [f.to_image() for f, _ in zip(file.decode(video=0), range(3))]
    small = [np.asarray(f.resize((96, 64), Image.BOX)) for f in frames]
    video = np.stack(small)[None].astype(np.float32) / 127.5 - 1
    mask = np.zeros((1, 3, 64, 96, 1), np.float32)
    for t, stroke in enumerate(rng.uniform(0, 64, (3, 5, 2))):
      picture = Image.new("L", (96, 64))
      line = [tuple(p) for p in stroke * (1.5, 1)]
      ImageDraw.Draw(picture).line(line, fill=1, width=6)
      mask[0, t, ..., 0] = picture
    ours = _run(
      "fill", {"video": video * (1 - mask), "mask": mask}, TIMES[:, :3]
    )
    theirs = np.stack(
      [
        cv2.inpaint(f, m.astype(np.uint8), 5, cv2.INPAINT_NS)
        for f, m in zip(small, mask[0, ..., 0])
      ]
    )
    error = lambda v, x=video, m=mask: np.log10(np.square((v - x) * m).sum())
    gains.append(10 * (error(theirs / 127.5 - 1) - error(ours)))
  assert np.mean(gains) > 0


# --------------------------------------------------------------------- halos


@pytest.mark.parametrize("name", [n for n in bases.BASES if n != "levels"])
def test_halo(name):
  scale = 2 if name == "lanczos" else 1
  pixels, before, after = bases.HALO[name]
  h, w, t = (32, 320, 30) if name in ("fill", "paint") else (8, 32, 30)
  rng = np.random.default_rng(0)
  channels = 3 if name == "paint" else 1
  video = rng.uniform(-1, 1, (1, t, h, w, channels)).astype(np.float32)
  # Patches and frames that are lost.
  mask = np.repeat(rng.random((1, t, h, w // 4, 1)) < 0.8, 4, 3)
  mask[:, 2::3] = True
  mask = mask.astype(np.float32)
  times = np.cumsum(rng.uniform(0.5, 1, (1, t)), 1).astype(np.float32)
  run = lambda given, times: _run(name, given, times, scale)
  cut = lambda f: {"video": f(video * (1 - mask)), "mask": f(mask)}
  whole = run(cut(lambda x: x), times)
  # A tile: all that is farther from the cut than the halo is the same.
  align = bases.ALIGN[name]
  start = -(-pixels // align) * align
  left = 2 * align
  tile = run(cut(lambda x: x[:, :, :, left:]), times)
  np.testing.assert_allclose(
    tile[:, :, :, start * scale :],
    whole[:, :, :, (left + start) * scale :],
    atol=1e-6,
  )
  right = run(cut(lambda x: x[:, :, :, : w - left]), times)
  keep = (w - left - start) * scale
  np.testing.assert_allclose(
    right[:, :, :, :keep], whole[:, :, :, :keep], atol=1e-6
  )
  # A chunk.
  if before < t:
    chunk = run(cut(lambda x: x[:, 5:25]), times[:, 5:25])
    np.testing.assert_allclose(
      chunk[:, before : 20 - after],
      whole[:, 5 + before : 25 - after],
      atol=1e-6,
    )


def test_the_halo_of_fill_is_needed():
  video = np.zeros((1, 1, 32, 320, 1), np.float32)
  mask = np.ones((1, 1, 32, 320, 1), np.float32)
  mask[..., 160, :] = 0
  video[..., 160, :] = 1
  full = _run("fill", {"video": video, "mask": mask}, TIMES[:, :1])
  reached = np.flatnonzero(full[0, 0, 0, :, 0])
  assert 64 < 160 - reached[0] <= bases.HALO["fill"][0]
