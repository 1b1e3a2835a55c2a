"""What a sampler gives to its generator."""

import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax import sampler as sampler_lib


class Loud:
  """Frames as bright as the sound that is given of them."""

  def apply(self, variables, given, z, times):
    del variables, z
    assert given["sound"].shape[:2] == times.shape
    return jnp.broadcast_to(
      given["sound"][..., None, None], (*times.shape, 2, 2, 3)
    )


def test_a_sound_is_given_of_the_times_that_are_drawn():
  times = np.arange(4, dtype=np.float32) / 8 + 1
  sampler = sampler_lib.Sampler(
    generator=Loud(),
    params={},
    step=0,
    task=None,
    times=tuple(times),
    resolution=2,
  )
  sound = np.linspace(-1, 1, 6, dtype=np.float32)[None, :, None]
  given = {"sound": sound, "label": np.zeros(1, np.int32)}

  def drawn(index):
    at = (1 + np.asarray(index) / 8).astype(np.float32)
    return np.asarray(sampler.draw({}, given, at))[0, :, 0, 0, 0]

  whole = drawn(range(6))
  np.testing.assert_allclose(whole, np.linspace(0, 255, 6), atol=1)
  np.testing.assert_array_equal(drawn([0]), whole[:1])
  np.testing.assert_array_equal(drawn([5, 2]), whole[[5, 2]])
  with pytest.raises(errors.UserError, match="'sound' is given of 6 times"):
    drawn(range(7))
