"""Aligned videos in files."""

import json
import tracemalloc

import av
import footage
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax.evals import aligned
from vidgan_jax.evals import paired
from vidgan_jax.evals import perceptual
from vidgan_jax.measures import ffmpeg
from vidgan_jax.measures import fidelity
from vidgan_jax.video import read
from vidgan_jax.video import write


@pytest.fixture
def folders(tmp_path):
  """Three strips of noise, and the same with errors of 2, 4, 8 levels."""
  rng = np.random.default_rng(0)
  real, fake = [], []
  for name in ("real", "fake"):
    (tmp_path / name).mkdir()
  for i, error in enumerate((2, 4, 8)):
    video = rng.integers(20, 200, (4, 16, 16, 3)).astype(np.uint8)
    real.append(video)
    fake.append(video + np.uint8(error))
    for name, clip in (("real", real[-1]), ("fake", fake[-1])):
      strip = Image.fromarray(write.strip(clip))
      strip.save(tmp_path / name / f"{i}.png")
  return tmp_path, np.array(fake), np.array(real)


def test_means_over_pairs(folders):
  root, fake, real = folders
  values, rows = aligned.run(
    root / "fake", root / "real", ["psnr_rgb", "ssim", "ms_ssim", "vmaf"]
  )
  want = [20 * np.log10(255 / error) for error in (2, 4, 8)]
  assert [rows[str(i)]["psnr_rgb"] for i in range(3)] == pytest.approx(want)
  psnr = values["psnr_rgb"]
  assert float(psnr) == pytest.approx(np.mean(want))
  assert want[2] - 1e-9 <= psnr.low < float(psnr)
  assert float(psnr) < psnr.high <= want[0] + 1e-9
  assert psnr.num == 3
  ssim = [fidelity.ssim(a, b) for a, b in zip(fake, real)]
  assert float(values["ssim"]) == pytest.approx(np.mean(ssim))
  assert np.isnan(float(values["vmaf"]))
  assert "192 pixels" in values["vmaf"].note
  assert np.isnan(float(values["ms_ssim"]))
  assert "needs at least 161 pixels" in values["ms_ssim"].note


def test_some_of_the_frames(folders):
  """The first two, or every second one, of strips and of arrays."""
  root, fake, real = folders
  fake[:, 2:] = real[:, 2:]  # The strips on the disk are as they were.
  for name, videos in (("fake", fake), ("real", real)):
    np.save(root / f"{name}.npy", videos)
  for suffix, frames, error in (
    ("", slice(0, 2), 2), (".npy", slice(0, 2), 2),
    ("", slice(0, 3, 2), 2), (".npy", slice(0, 3, 2), 2 / np.sqrt(2)),
  ):  # fmt: skip
    both = root / f"fake{suffix}", root / f"real{suffix}"
    values, rows = aligned.run(*both, ["psnr_rgb"], frames)
    want = 20 * np.log10(255 / error)
    assert rows["0"]["psnr_rgb"] == pytest.approx(want)
    assert values["psnr_rgb"].protocol["frames"] == 2
    with pytest.raises(errors.UserError, match="4 of the 9 .*--frames 4"):
      aligned.run(*both, ["psnr_rgb"], slice(0, 9))


@pytest.mark.parametrize(
  "name, words", [("psnr_y", "psnr_y_bt601, psnr_y_bt709"), ("lpips", "_vgg")]
)
def test_a_name_of_several_metrics_is_told_with_all(name, words, folders):
  with pytest.raises(errors.UserError, match=f"{name!r}.*{words}"):
    aligned.run(folders[0] / "fake", folders[0] / "real", [name])


def test_every_metric_has_a_value_or_a_reason(folders, monkeypatch, tmp_path):
  root, _, _ = folders
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path / "none"))
  values, _ = aligned.run(root / "fake", root / "real")
  assert list(values) == list(paired.METRICS)
  for name, value in values.items():
    assert np.isfinite(float(value)) or value.note.startswith("not computed")
    if "lpips" in name or name == "tlp":
      assert "docs/metrics.md" in value.note


def test_each_metric_has_a_protocol_of_its_own(folders, monkeypatch):
  pytest.importorskip("imageio_ffmpeg")
  root, _, _ = folders

  def compare(*args):
    raise ValueError("no weights in tests")

  monkeypatch.setattr(perceptual, "load", lambda trunk: ({}, f"sum of {trunk}"))
  monkeypatch.setattr(perceptual, "compare", compare)
  values, _ = aligned.run(root / "fake", root / "real")
  assert len({value.hash for value in values.values()}) == len(paired.METRICS)
  cards = {name: json.dumps(v.protocol) for name, v in values.items()}
  for name, facts in (
    ("psnr_y_bt601", ["BT.601"]),
    ("psnr_y_bt709", ["BT.709"]),
    ("tof", ["Farneback"]),
    ("warping_error", ["Farneback", "of the reference"]),
    ("vmaf", [ffmpeg.VMAF, ffmpeg.version(), "BT.709"]),
    ("xpsnr_u", ["U", ffmpeg.version(), "BT.709"]),
    ("lpips_vgg", ["over vgg", "sum of vgg"]),
    ("tlp", ["over alex", "sum of alex"]),
  ):
    for fact in facts:
      assert fact in cards[name]


def test_the_verb(folders, capsys, tmp_path):
  root, fake, real = folders
  out, page = tmp_path / "out.json", tmp_path / "out.html"
  arguments = ["--paired", root / "fake", root / "real"]
  arguments += ["--metrics", "psnr_rgb,psnr_y_bt601"]
  arguments += ["--out", out, "--report", page]
  assert cli.main(["evaluate", *map(str, arguments)]) == 0
  assert "psnr_y_bt601" in capsys.readouterr().out
  row = json.loads(out.read_text())
  assert set(row["videos"]) == {"0", "1", "2"}
  text = page.read_text()
  # The best of three, of the smallest error, and the worst, over their targets.
  best, worst = row["videos"]["0"]["psnr_rgb"], row["videos"]["2"]["psnr_rgb"]
  assert f"Best by psnr_rgb: 0, {best:.4g}" in text
  assert f"Worst by psnr_rgb: 2, {worst:.4g}" in text
  shown = aligned.extremes(root / "fake", root / "real", row["videos"])
  for pair, i in zip(shown.values(), (0, 2), strict=True):
    np.testing.assert_array_equal(pair.clips[0], fake[i])
    np.testing.assert_array_equal(pair.beside[0], real[i])
  for name in ("0", "1", "2"):
    assert f'<th scope="row">{name}</th>' in text


def test_the_best_is_the_lowest_of_a_distance(folders):
  root, _, _ = folders
  rows = {name: {"tof": x} for name, x in (("0", 3.0), ("1", 1.0), ("2", 2.0))}
  shown = aligned.extremes(root / "fake", root / "real", rows)
  assert [title[:5] for title in shown] == ["Best ", "Worst"]
  assert list(shown)[0].endswith("1, 1") and list(shown)[1].endswith("0, 3")
  asked = {name: row | {"psnr_rgb": 30.0} for name, row in rows.items()}
  assert list(aligned.extremes(root / "fake", root / "real", asked)) == list(
    shown
  )
  rows["1"]["tof"] = np.nan  # No metric that all have.
  assert aligned.extremes(root / "fake", root / "real", rows) == {}


def test_what_is_refused(folders, tmp_path):
  root, _, _ = folders
  with pytest.raises(ValueError, match="Did you mean 'ssim'"):
    aligned.run(root / "fake", root / "real", ["sim"])
  with pytest.raises(ValueError, match="two files or two folders"):
    aligned.run(root / "fake" / "0.png", root / "real")
  with pytest.raises(ValueError, match="does not exist"):
    aligned.run(root / "fake", root / "nothing")
  (root / "fake" / "2.png").rename(root / "fake" / "3.png")
  with pytest.raises(ValueError, match="2 of them have no partner"):
    aligned.run(root / "fake", root / "real")


def noise(frames=4, size=16, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (frames, size, size, 3)).astype(np.uint8)


def videos(root, *clips, fps=25.0, name="a.mp4"):
  """One video in each of the folders fake and real."""
  for folder, clip in zip(("fake", "real"), clips):
    (root / folder).mkdir(exist_ok=True)
    write.write(root / folder / name, clip, fps)
  return root / "fake", root / "real"


@pytest.mark.parametrize("side", ["fake", "real"])
def test_a_frame_that_is_lost_is_no_pair(side, tmp_path):
  """Of both it would shift all that follow; so would it of one."""
  folders = videos(tmp_path, noise(12, 32), noise(12, 32))
  assert aligned.run(*folders, ["psnr_rgb"])[0]["psnr_rgb"].num == 1
  footage.damage(tmp_path / side / "a.mp4", 5)
  with pytest.raises(ValueError, match=rf"{side}/a.mp4: 1 of its frames"):
    aligned.run(*folders, ["psnr_rgb"])
  for folder in ("images", "copies"):
    (tmp_path / folder / "x").mkdir(parents=True)
    for t, frame in enumerate(noise(5)):
      path = tmp_path / folder / "x" / f"{t}.png"
      Image.fromarray(frame).save(path)
      if t == 2:
        path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(ValueError, match=r"images/x: 1 of its frames"):
    aligned.run(tmp_path / "images", tmp_path / "copies", ["psnr_rgb"])


def test_memory_does_not_grow_with_the_video(tmp_path):
  folders = videos(tmp_path, noise(64, 128), noise(64, 128, 1))
  aligned.run(*folders, ["psnr_rgb"])  # What is imported counts once.
  tracemalloc.start()
  try:
    aligned.run(*folders, ["psnr_rgb", "ssim"])
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  # One clip has 3 MiB; SSIM of a frame is in float64, some ten arrays.
  assert peak < 6 * 2**20


def test_frames_that_do_not_fit_are_told_of(tmp_path, monkeypatch):
  folders = videos(tmp_path, noise(2, 32), noise(2, 32, 1))
  full = lambda: open("/dev/full", "w+b")
  monkeypatch.setattr(aligned.tempfile, "TemporaryFile", full)
  with pytest.raises(ValueError, match="a.mp4: .* do not fit in .* TMPDIR"):
    aligned.run(*folders, ["psnr_rgb"])


def test_xpsnr_is_of_the_rate_of_the_video(tmp_path):
  pytest.importorskip("imageio_ffmpeg")
  folders = videos(tmp_path, noise(4, 192), noise(4, 192, 1), fps=50.0)
  clips = [
    np.stack([f.image for f in read.frames(folder / "a.mp4")])
    for folder in folders
  ]
  values, _ = aligned.run(*folders, ["xpsnr_y"])
  slow, fast = (ffmpeg.xpsnr(*clips, fps=fps)["y"] for fps in (25.0, 50.0))
  assert abs(slow - fast) > 0.01
  assert float(values["xpsnr_y"]) == pytest.approx(fast)
  assert values["xpsnr_y"].protocol["fps"] == [50, 50]
  assert values["xpsnr_y"].note == "no interval: one video"
  write.write(folders[0] / "a.mp4", clips[0], 25.0)
  note = aligned.run(*folders, ["psnr_rgb"])[0]["psnr_rgb"].note
  assert "1 of 1 videos have another frame rate" in note
  assert "a (25 and 50)" in note


def test_pixels_that_are_not_square_stay_as_they_are(tmp_path):
  """Resized, noise would be blurred, and both clips agree more."""
  clips = noise(2, 32), noise(2, 32, 1)
  figures = []
  for aspect in (1, 2):
    for folder, clip in zip(("fake", "real"), clips):
      path = tmp_path / folder / "a.mp4"
      path.parent.mkdir(exist_ok=True)
      with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for frame in clip:
          out.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        out.mux(stream.encode())
      assert read.probe(path).pixel_aspect == aspect
    values, _ = aligned.run(tmp_path / "fake", tmp_path / "real", ["psnr_rgb"])
    figures.append(float(values["psnr_rgb"]))
  assert figures[0] == figures[1]


def test_a_video_without_a_value_is_left_out_and_told_of(tmp_path):
  """Of one frame, in which nothing moves."""
  pytest.importorskip("cv2")
  videos(tmp_path, noise(1), noise(1), name="a.mp4")
  videos(tmp_path, noise(3), noise(3, seed=1), name="b.mp4")
  folders = videos(tmp_path, noise(3), noise(3, seed=2), name="c.mp4")
  values, rows = aligned.run(*folders, ["tof", "psnr_rgb"])
  assert np.isnan(rows["a"]["tof"]) and values["psnr_rgb"].num == 3
  tof = values["tof"]
  assert float(tof) == pytest.approx((rows["b"]["tof"] + rows["c"]["tof"]) / 2)
  assert tof.low <= float(tof) <= tof.high and tof.num == 2
  assert "1 of 3 videos have no value" in tof.note and "as a" in tof.note
  for folder in folders:
    for name in "bc":
      (folder / f"{name}.mp4").unlink()
  value = aligned.run(*folders, ["tof"])[0]["tof"]
  assert np.isnan(float(value)) and value.note.startswith("not computed: no")


def test_damaged_weights_are_of_one_metric(folders, monkeypatch, tmp_path):
  root, _, _ = folders
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path))
  (tmp_path / "lpips_alex.safetensors").write_bytes(b"nothing")
  chosen = ["lpips_alex", "tlp", "psnr_rgb"]
  values, rows = aligned.run(root / "fake", root / "real", chosen)
  assert np.isfinite(float(values["psnr_rgb"])) and len(rows) == 3
  for name in chosen[:2]:
    assert np.isnan(float(values[name]))
    note = values[name].note
    assert (
      note.startswith("not computed: ") and "safetensors is damaged" in note
    )
    assert "Make it again: vidgan weights convert lpips_alex" in note


def test_what_one_metric_refuses_the_others_measure(folders, monkeypatch):
  root, _, _ = folders

  def lpips(fake, target):
    raise ValueError("LPIPS over 'alex' needs frames of at least 31 pixels")

  metric = paired.Metric(function=lpips)
  monkeypatch.setitem(paired.METRICS, "lpips_alex", metric)
  chosen = ["lpips_alex", "psnr_rgb"]
  values, _ = aligned.run(root / "fake", root / "real", chosen)
  assert np.isfinite(float(values["psnr_rgb"]))
  assert values["lpips_alex"].note.startswith("not computed: 0: LPIPS over")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_are_paired_by_number(folders, tmp_path, suffix):
  root, fake, real = folders
  save = np.save if suffix == ".npy" else np.savez
  one, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
  save(one, fake)
  save(other, real)
  found = aligned.run(one, other, ["psnr_rgb"])
  assert found[1] == aligned.run(root / "fake", root / "real", ["psnr_rgb"])[1]
  assert found[0]["psnr_rgb"].protocol["fps"] is None
  with pytest.raises(ValueError, match="two arrays or two videos"):
    aligned.run(one, root / "real" / "0.png")
  save(other, real[:2])
  with pytest.raises(ValueError, match="has 3 clips.*has 2"):
    aligned.run(one, other)
  save(other, real[..., :1])
  with pytest.raises(ValueError, match=r"grey clips: numpy.repeat"):
    aligned.run(one, other)


def test_folders_of_images_may_have_dots_in_their_names(tmp_path):
  for folder in ("fake", "real"):
    for name in ("seq.1", "seq.2"):
      (tmp_path / folder / name).mkdir(parents=True)
      for t, frame in enumerate(noise(2)):
        Image.fromarray(frame).save(tmp_path / folder / name / f"{t}.png")
  _, rows = aligned.run(tmp_path / "fake", tmp_path / "real", ["psnr_rgb"])
  assert set(rows) == {"seq.1", "seq.2"}
