"""Shipped weights answer what they answered when they were shipped."""

import re

import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax import zoo

# Mean, standard deviation, and product with fixed noise, scaled so that it
# moves as far as the answer does, wherever that is; white is 1. With SSE 4.2 in
# place of AVX-512 every byte is the same. Frames are mirrored beyond the border
# where it would show, and what fills holes is kept in ten bits: six answers are
# not those of version 0.1.
ANSWERS = {
  "colorize": (0.497602, 0.192294, 0.274622),
  "deblock": (0.496879, 0.179597, 0.286000),
  "denoise": (0.500018, 0.119649, 0.239549),
  "enhance": (0.563956, 0.199535, 0.362817),
  "inpaint": (0.500212, 0.178654, 0.132966),
  "interpolate": (0.498629, 0.171243, 0.216970),
  "restore": (0.498680, 0.123033, 0.254686),
  "super_resolve_x2": (0.498260, 0.204289, 0.116372),
  "super_resolve_x4": (0.498601, 0.204702, 0.393358),
}
# The same of two clips that are asked for, as a strip.
DRAWN = {
  "sprites-text": (
    ["--text", "a red disc falling", "--text", "a blue cross gliding"],
    (0.056672, 0.176750, -0.161137),
  ),
}


def test_none_is_missing():
  assert zoo.names() == sorted([*ANSWERS, *DRAWN])


@pytest.mark.parametrize("name", zoo.names())
def test_a_flipped_bit_is_refused(name, tmp_path):
  data = (zoo.FOLDER / f"{name}.safetensors").read_bytes()
  path = tmp_path / "w.safetensors"
  for place in np.random.default_rng(0).integers(0, len(data), 8):
    path.write_bytes(
      data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    )
    with pytest.raises(errors.UserError, match="is damaged"):
      zoo.load(str(path))


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_the_same(name, tmp_path):
  """As the command gives it, for four pictures with a hole."""
  t, y, x, c = np.ogrid[:4, :32, :32, :3]
  clip = np.sin(0.4 * x + 0.3 * y * c - t) * np.cos(0.05 * x * y)
  given, out, mask = (tmp_path / part for part in ("in", "out", "mask.png"))
  given.mkdir()
  for i, frame in enumerate(np.uint8(127.5 + 100 * clip)):
    Image.fromarray(frame).save(given / f"{i}.png")
  hole = np.zeros((32, 32), np.uint8)
  hole[8:24, 8:24] = 255
  Image.fromarray(hole).save(mask)
  spec = re.sub(r"_x(\d)$", r":scale=\1", name)
  words = [spec, str(given), f"{out}/%02d.png", "--mask", str(mask)]
  assert cli.main(["process", *words]) == 0
  frames = [np.asarray(Image.open(path)) for path in sorted(out.iterdir())]
  check(np.stack(frames), ANSWERS[name])


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_is_the_same(name, tmp_path):
  asked, answer = DRAWN[name]
  out = tmp_path / "a.png"
  words = ["generate", name, *asked, "--strip", "--scale", "1", "--num", "1"]
  assert cli.main([*words, "--out", str(out)]) == 0
  check(np.asarray(Image.open(out)), answer)


def check(pictures, answer):
  pictures = pictures / 255
  noise = np.random.default_rng(0).standard_normal(pictures.shape)
  product = (pictures * noise).sum() / np.sqrt(pictures.size)
  made = pictures.mean(), pictures.std(), product
  np.testing.assert_allclose(made, answer, atol=1e-4)
