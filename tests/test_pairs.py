"""Aligned videos in files."""

import json

import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli
from vidgan_jax.evals import paired
from vidgan_jax.evals import pairs
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
  values, rows = pairs.run(
    root / "fake", root / "real", ["psnr_rgb", "ssim", "vmaf"]
  )
  want = [20 * np.log10(255 / error) for error in (2, 4, 8)]
  assert [rows[str(i)]["psnr_rgb"] for i in range(3)] == pytest.approx(want)
  psnr = values["psnr_rgb"]
  assert float(psnr) == pytest.approx(np.mean(want))
  assert want[2] - 1e-9 <= psnr.low < float(psnr)
  assert float(psnr) < psnr.high <= want[0] + 1e-9
  assert psnr.num == 3
  ssim = [paired.ssim(a, b) for a, b in zip(fake, real)]
  assert float(values["ssim"]) == pytest.approx(np.mean(ssim))
  assert np.isnan(float(values["vmaf"]))
  assert "192 pixels" in values["vmaf"].note


def test_every_metric_has_a_value_or_a_reason(folders, monkeypatch, tmp_path):
  root, _, _ = folders
  monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path / "none"))
  values, _ = pairs.run(root / "fake", root / "real")
  assert list(values) == list(pairs.METRICS)
  for name, value in values.items():
    assert np.isfinite(float(value)) or value.note.startswith("not computed")
    if "lpips" in name or name == "tlp":
      assert "docs/metrics.md" in value.note


def test_the_verb(folders, capsys, tmp_path):
  root, _, _ = folders
  out, page = tmp_path / "out.json", tmp_path / "out.html"
  arguments = ["--paired", root / "fake", root / "real"]
  arguments += ["--metrics", "psnr_rgb,psnr_y_bt601"]
  arguments += ["--out", out, "--report", page]
  assert cli.main(["evaluate", *map(str, arguments)]) == 0
  assert "psnr_y_bt601" in capsys.readouterr().out
  row = json.loads(out.read_text())
  assert set(row["videos"]) == {"0", "1", "2"}
  assert "psnr_rgb" in page.read_text()


def test_what_is_refused(folders, tmp_path):
  root, _, _ = folders
  with pytest.raises(ValueError, match="Did you mean 'ssim'"):
    pairs.run(root / "fake", root / "real", ["sim"])
  with pytest.raises(ValueError, match="two files or two folders"):
    pairs.run(root / "fake" / "0.png", root / "real")
  with pytest.raises(ValueError, match="does not exist"):
    pairs.run(root / "fake", root / "nothing")
  (root / "fake" / "2.png").rename(root / "fake" / "3.png")
  with pytest.raises(ValueError, match="2 of them have no partner"):
    pairs.run(root / "fake", root / "real")
