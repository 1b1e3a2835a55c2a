"""Metrics worsen with damage, step by step, and are best for real clips.

Sets, damages and metrics are those of `benchmarks/ladders.py`, whose tables
docs/metrics.md has: 24 clips of each half, 16 frames of 64 pixels.
"""

import functools
import importlib.util
import pathlib
import sys

import footage
import numpy as np
import pytest

from vidgan_jax.evals import frd_random
from vidgan_jax.evals import swd
from vidgan_jax.measures import motion

COMPUTES = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
FEW = 8  # clips, where what is slow needs no more
SETS = [
  "sprites",
  pytest.param("sky", marks=footage.needed),
  pytest.param("weizmann", marks=footage.needed),
]
REAL_SETS = SETS[1:]
TIME = ("still", "shuffled", "repeated")


def _load():
  path = ROOT / "benchmarks" / "ladders.py"
  spec = importlib.util.spec_from_file_location("benchmark_of_ladders", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


ladders = _load()
DAMAGES = {damage.__name__: damage for damage in ladders.LADDERS}


@functools.cache
def halves(name):
  """The reference, and the half that is damaged."""
  return ladders.SETS[name](footage.REAL)


@functools.cache
def damaged(name, ladder):
  """The half as it is, and after each step."""
  half, damage = halves(name)[1], DAMAGES[ladder]
  return [half, *(damage(half, step) for step in ladders.LADDERS[damage])]


@functools.cache
def random_judge(name):
  """One a set: it keeps what it saw of the reference."""
  del name
  return frd_random.Evaluator(num=ladders.HALF)


@functools.cache
def random_values(name, ladder, rung):
  clips = damaged(name, ladder)[rung]
  return ladders.distances([random_judge(name)], clips, halves(name)[0])


@functools.cache
def undamaged(name):
  return random_values(name, "noise", 0)


def worsens(name, metric, values):
  worse = ladders.losses(metric, values)
  assert ladders.follows(worse), (name, metric, worse)


# --------------------------------------------------------------- distributions


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("ladder", [d for d in DAMAGES if d != "backwards"])
def test_random_features_see_all_damage(name, ladder):
  """Thus real clips have the lowest figure of any comparison, too."""
  rungs = range(1, len(damaged(name, ladder)))
  values = [random_values(name, ladder, rung) for rung in rungs]
  values = [undamaged(name), *values]
  worsens(name, "frd_random", values)
  if ladder in ("noise", "still", "repeated"):
    worsens(name, "krd_random", values)


@pytest.mark.parametrize("name", SETS)
def test_random_features_are_blind_to_time_backwards(name):
  backwards = random_values(name, "backwards", -1)["frd_random"]
  assert backwards == pytest.approx(undamaged(name)["frd_random"], rel=1e-3)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("ladder", ["noise", "modes", "still"])
def test_neighbours_are_lost(name, ladder):
  last = random_values(name, ladder, -1)
  assert last["coverage_random"] < undamaged(name)["coverage_random"]


@pytest.mark.parametrize("name", REAL_SETS)
@pytest.mark.parametrize("ladder", ["noise", "blur", "h264"])
def test_texture(name, ladder):
  judge = swd.Evaluator(num=ladders.HALF, patches=4096)
  real = halves(name)[0]
  values = [ladders.distances([judge], c, real) for c in damaged(name, ladder)]
  worsens(name, "swd", values)


@pytest.mark.parametrize("name", SETS)
def test_what_is_of_single_frames_does_not_see_their_order(name):
  real, half = halves(name)
  mixed = damaged(name, "shuffled")[-1]
  judge = swd.Evaluator(num=ladders.HALF, patches=4096, frames=ladders.FRAMES)
  texture = [ladders.distances([judge], c, real)["swd"] for c in (half, mixed)]
  assert texture[1] == pytest.approx(texture[0], rel=0.05)
  # What is of time does.
  last = random_values(name, "shuffled", -1)
  assert last["frd_random"] > 1.3 * undamaged(name)["frd_random"]
  spectra = [motion.spectra(clips) for clips in (real, half, mixed)]
  alike, far = (motion.spectrum_distance(s, spectra[0]) for s in spectra[1:])
  assert far > 1.3 * alike


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("ladder", ["noise", "shuffled"])
def test_motion(name, ladder):
  spectra = motion.spectra(halves(name)[0])
  metric = "motion/spectrum_distance"
  values = [
    {metric: motion.spectrum_distance(motion.spectra(clips), spectra)}
    for clips in damaged(name, ladder)
  ]
  worsens(name, metric, values)


# ---------------------------------------------------------------------- paired


def paired_values(name, ladder, metrics, few=FEW):
  """Of each damaged rung; PSNR and SSIM of equal clips are no news."""
  half = halves(name)[1][:few]
  return [
    {metric: ladders.paired(metric, clips[:few], half) for metric in metrics}
    for clips in damaged(name, ladder)[1:]
  ]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("ladder", ["noise", "blur", "h264", *TIME])
def test_paired(name, ladder):
  metrics = ["paired/psnr_rgb", "paired/ssim"]
  values = paired_values(name, ladder, metrics)
  for metric in metrics:
    worsens(name, metric, values)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
  "ladder", ["noise", "blur", "h264", "still", "shuffled"]
)
def test_paired_motion(name, ladder):
  pytest.importorskip("cv2")
  metric = "paired/tof"
  worsens(name, metric, paired_values(name, ladder, [metric]))


@footage.needed
@pytest.mark.parametrize("ladder", ["noise", "blur", "h264"])
def test_paired_of_large_pictures(ladder):
  pytest.importorskip("imageio_ffmpeg")
  metrics = ["paired/ms_ssim", "paired/vmaf", "paired/xpsnr_y"]
  values = paired_values("signs192", ladder, metrics, few=2)
  for metric in metrics:
    worsens("signs192", metric, values)


# ---------------------------------------------------------------------- grades


def crops(clips, seed):
  """Of each clip another part of the picture."""
  places = np.random.default_rng(seed).integers(0, 17, (len(clips), 2))
  pairs = zip(clips, places)
  return np.stack([c[:, y : y + 48, x : x + 48] for c, (y, x) in pairs])


@footage.needed
def test_grades_of_one_scene():
  """Five fakes of one scene, each plainly worse than the one before."""
  scene = np.repeat(halves("sky")[1][3:4], ladders.HALF, 0)
  grades = [
    scene,
    footage.noise(scene, 3),
    footage.noise(footage.blur(scene, 0.6), 6),
    ladders.h264(footage.noise(footage.blur(scene, 1), 10), 36),
    footage.noise(ladders.repeated(footage.blur(scene, 2), 4), 20),
  ]
  # Not `swd`: the last noise fills the bands that blur has emptied.
  judges = [frd_random.Evaluator(num=ladders.HALF)]
  real = crops(scene, 0)
  found = [ladders.distances(judges, crops(g, 1), real) for g in grades]
  worsens("sky", "frd_random", found)
  for metric in ("paired/psnr_rgb", "paired/ssim"):
    values = [{metric: ladders.paired(metric, g[:1], scene)} for g in grades]
    worsens("sky", metric, values)


@pytest.mark.parametrize("name", REAL_SETS)
def test_time_backwards(name):
  """Seen where motion has a direction; that of sprites has none."""
  real, (fake, _, backwards) = halves(name)[0], damaged(name, "backwards")
  rows = motion.arrows(real)
  alike = motion.arrow_distance(motion.arrows(fake), rows)
  assert motion.arrow_distance(motion.arrows(backwards), rows) > 1.5 * alike
