"""Another background: composites whose alpha is known, and whole files."""

import fractions

import av
import numpy as np
from PIL import Image
import pytest
from scipy import ndimage

from vidgan_jax.video import filters
from vidgan_jax.video import job
from vidgan_jax.video import matte
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import stream
from vidgan_jax.video import write

SIZE = (144, 192)
NEW = np.float32((0.2, 0.1, 0.5))  # the new background
GREEN = (0.16, 0.7, 0.27)


def front(seed=0):
  """Alpha (H, W) with a soft edge and strands, F (H, W, 3) without green."""
  height, width = SIZE
  y, x = np.mgrid[:height, :width]
  alpha = np.clip(
    (45 - np.hypot(y - height / 2, x - width / 2)) / 3 + 0.5, 0, 1
  )
  strands = ((x + 2 * np.sin(y / 7)) % 9 < 1.5) & (y > 10) & (y < 30)
  strands = ndimage.gaussian_filter(strands.astype(float), 0.7)
  noise = np.random.default_rng(seed).standard_normal((*SIZE, 3))
  noise = ndimage.gaussian_filter(noise, (6, 6, 0))
  colour = 0.12 * noise / noise.std() * (1, 0.5, 0.8) + (0.6, 0.42, 0.38)
  colour[..., 1] = np.minimum(colour[..., 1], colour[..., [0, 2]].max(-1))
  return np.maximum(alpha, 0.9 * strands), np.clip(colour, 0, 1)


def observed(alpha, colour, behind, noise=0.0):
  """C (H, W, 3) float32, in 255ths."""
  image = alpha[..., None] * colour + (1 - alpha[..., None]) * behind
  image += noise * np.random.default_rng(1).standard_normal(image.shape)
  return np.float32(np.round(255 * np.clip(image, 0, 1)) / 255)


def uneven(colour, share):
  """A screen that is darker at one corner and lighter at the other."""
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  light = x / SIZE[1] + y / SIZE[0] - 1
  return np.float32(colour) * (1 + share * light)[..., None]


def wall():
  """A room without what is in front."""
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  planes = [0.5 + 0.3 * np.sin(x / 20), 0.6 + 0.2 * np.cos(y / 15), 0.7 + 0 * x]
  return np.stack(planes, -1)


def errors(alpha, colour, cut):
  """Of alpha, and of the composite in 255ths: all over, and at edges."""
  got, shown = cut
  over = lambda a, f: a[..., None] * f + (1 - a[..., None]) * NEW
  edge = (alpha > 0.02) & (alpha < 0.98)
  wrong = 255 * np.abs(over(got, shown) - over(alpha, colour)).mean(-1)
  return np.abs(got - alpha).mean(), wrong.mean(), wrong[edge].mean()


@pytest.mark.parametrize(
  ("name", "screen", "share", "noise", "most"),
  [
    ("green", GREEN, 0.0, 0.0, (0.008, 0.6, 5.5)),
    ("green", GREEN, 0.3, 0.01, (0.009, 1.2, 7.0)),
    ("green", GREEN, 0.6, 0.02, (0.014, 2.2, 9.0)),
    ("blue", (0.2, 0.55, 0.8), 0.2, 0.01, (0.014, 1.3, 6.0)),  # it is cyan
  ],
)
def test_a_screen_is_cut_out(name, screen, share, noise, most):
  alpha, colour = front()
  image = observed(alpha, colour, uneven(screen, share), noise)
  assert np.all(
    np.less(errors(alpha, colour, matte.screen(name)(image, 0)), most)
  )


def test_a_screen_is_cut_out_better_than_by_chromakey():
  alpha, colour = front()
  image = observed(alpha, colour, uneven(GREEN, 0.3), 0.01)
  ours = errors(alpha, colour, matte.screen("green")(image, 0))
  theirs = []
  for alike in (0.05, 0.1, 0.2, 0.3):
    for blend in (0.0, 0.1, 0.3):
      text = f"format=yuva444p,chromakey=0x29b345:{alike}:{blend},despill=green"
      frame = stream.Frame(time=0, duration=1, image=np.uint8(image * 255))
      (out,) = filters.filtered(
        [frame], text, flag="", base=fractions.Fraction(1)
      )
      theirs.append(errors(alpha, colour, (out.alpha / 255, out.image / 255)))
  assert np.all(np.asarray(ours) < 0.7 * np.min(theirs, 0)), (ours, theirs)


def test_no_colour_of_the_screen_stays_at_edges():
  alpha, colour = front()
  image = observed(alpha, colour, uneven(GREEN, 0.3), 0.01)
  _, shown = matte.screen("green")(image, 0)
  excess = shown[..., 1] - shown[..., [0, 2]].max(-1)
  assert excess[alpha > 0.1].max() < 0.05  # the screen has 0.43


def test_what_differs_from_a_plate_is_cut_out(tmp_path):
  alpha, colour = front()
  Image.fromarray(np.uint8(255 * wall())).save(tmp_path / "plate.png")
  cut = matte.Plate(str(tmp_path / "plate.png"))
  for gain in (1.0, 0.9):  # another exposure
    image = observed(alpha, colour, gain * wall(), 0.01)
    assert np.all(np.less(errors(alpha, colour, cut(image, 0)), (0.025, 3, 20)))
  empty = observed(0 * alpha, colour, wall(), 0.01)
  assert cut(empty, 0)[0].mean() < 1e-3


def test_a_matte_is_alpha(tmp_path):
  alpha, colour = front()
  Image.fromarray(np.uint8(np.round(255 * alpha))).save(tmp_path / "m.png")
  image = observed(alpha, colour, wall())
  cut = matte.Matte(str(tmp_path / "m.png"))(image, 0)
  *means, edge = errors(alpha, colour, cut)
  assert np.all(np.less(means, (0.002, 0.5)))
  # With the colours of the old background at edges it would be:
  assert 3 * edge < errors(alpha, colour, (cut[0], image))[2]


def test_a_film_begins_again(tmp_path):
  video = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50
  write.write(tmp_path / "a.mp4", np.tile(video, (1, 16, 16, 3)), 10)
  film = matte.Film(str(tmp_path / "a.mp4"))
  times = [fractions.Fraction(k, 20) for k in range(25)]
  got = [round(film.at(time).image.mean() / 50) for time in times]
  assert got == [k // 2 % 5 for k in range(25)]


def lossless(path, images):
  """A film in RGB without loss."""
  with av.open(str(path), "w") as out:
    track = out.add_stream("ffv1", rate=25)
    track.height, track.width = images[0].shape[:2]
    track.pix_fmt = "bgr0"
    for image in images:
      out.mux(track.encode(av.VideoFrame.from_ndarray(image)))
    out.mux(track.encode(None))
  return str(path)


def test_files_go_over_a_colour_directly_or_by_a_clear_film(tmp_path):
  alpha, colour = front()
  image = np.uint8(255 * observed(alpha, colour, uneven(GREEN, 0.2)))
  given = lossless(tmp_path / "a.mkv", [image] * 3)
  clear, twice, once = (str(tmp_path / f"{name}.mkv") for name in "bcd")
  options = dict(codec="ffv1")
  job.process([], given, clear, plan.Options(key="green", **options))
  job.process([], clear, twice, plan.Options(background="#331a80", **options))
  job.process([], given, once, plan.Options(
    key="green", background="#331a80", **options))  # fmt: skip
  want = 255 * (alpha[..., None] * colour + (1 - alpha[..., None]) * NEW)
  for path in (twice, once):
    for frame in read.frames(path):
      assert np.abs(frame.image - want).mean() < 0.8
      assert np.abs(frame.image[:6, :20] - (51, 26, 128)).max() == 0
  with pytest.raises(read.VideoError, match="this output cannot hold"):
    job.process([], given, str(tmp_path / "e.mp4"), plan.Options(key="green"))


def test_a_background_is_scaled_to_cover_the_frame(tmp_path):
  wide = np.zeros((10, 40, 3), np.uint8)
  wide[:, 13:27] = 255  # all that is seen of it
  Image.fromarray(wide).save(tmp_path / "wide.png")
  image = matte.Background(str(tmp_path / "wide.png")).at(0, *SIZE)
  assert image.shape == (*SIZE, 3) and image[:, 8:-8].min() > 0.95


@pytest.mark.parametrize(
  ("options", "why"),
  [
    (
      dict(key="magenta"),
      "3% of the first frame has this colour; the screen may be #29",
    ),
    (dict(key="white"), "has no hue"),
    (dict(key="greeen"), "is no colour"),
    (dict(key="green:0.7"), "0 to 0.5 after the colon"),
    (dict(key="green", plate="small.png"), "--key and --plate: give one"),
    (dict(plate="small.png"), "is 8x8, the film 192x144"),
    (dict(matte="small.png"), "is 8x8, the film 192x144"),
    (dict(matte="none.png"), "there is no such file"),
    (dict(background="nvay"), "neither a file nor a colour"),
    (dict(background="navy"), "the film has no transparency"),
    (dict(plate="text.png"), "not a picture"),
  ],
)
def test_what_cannot_be_cut_out_is_refused(tmp_path, options, why, monkeypatch):
  monkeypatch.chdir(tmp_path)
  Image.new("RGB", (8, 8)).save("small.png")
  (tmp_path / "text.png").write_text("hello")
  image = np.uint8(255 * observed(*front(), uneven(GREEN, 0.0)))
  lossless("a.mkv", [image] * 2)
  options = dict(background="navy") | options
  with pytest.raises(read.VideoError) as caught:
    job.process([], "a.mkv", "b.mp4", plan.Options(**options))
  assert why in str(caught.value) and "\n" not in str(caught.value)
  assert not (tmp_path / "b.mp4").exists()
