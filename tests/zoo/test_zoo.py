"""Shipped weights answer what they answered when they were shipped."""

import numpy as np
import pytest

from vidgan_jax import footage
from vidgan_jax import zoo

# Mean, standard deviation, and product with fixed noise, scaled so that it
# moves as far as the answer does, wherever that is. Of version 0.1; other
# instructions of the processor move them by less than 1e-6.
ANSWERS = {
  "colorize": (-0.002037, 0.395483, -0.180733),
  "deblock": (-0.002352, 0.369393, -0.078772),
  "denoise": (0.004549, 0.240147, -0.224463),
  "enhance": (0.155694, 0.401546, 0.111314),
  "inpaint": (-0.004436, 0.385974, -0.506692),
  "interpolate": (0.001192, 0.349503, -0.234692),
  "restore": (0.001413, 0.247047, -0.205862),
  "super_resolve_x2": (0.000454, 0.416782, 0.164003),
  "super_resolve_x4": (0.001190, 0.417596, 0.627595),
}


def test_none_is_missing():
  assert zoo.names() == sorted(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_the_same(name):
  t, y, x, c = np.ogrid[:4, :32, :32, :3]
  clip = np.sin(0.4 * x + 0.3 * y * c - t) * np.cos(0.05 * x * y)
  clip = np.float32(0.8 * clip)
  mask = np.zeros((4, 32, 32, 1), np.float32)
  mask[1:, 8:24, 8:24] = 1
  stage = footage.load(str(zoo.FOLDER / f"{name}.safetensors"), {})
  answer = np.float64(stage.look(clip)(clip, np.arange(4) / 25, mask))
  noise = np.random.default_rng(0).standard_normal(answer.shape)
  product = (answer * noise).sum() / np.sqrt(answer.size)
  made = answer.mean(), answer.std(), product
  np.testing.assert_allclose(made, ANSWERS[name], atol=1e-4)
