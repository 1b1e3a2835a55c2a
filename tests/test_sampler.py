"""What a sampler gives to its generator."""

import json
import pathlib
import shutil
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax import sampler as sampler_lib


class Loud:
  """Frames as bright as the sound that is given of them."""

  def apply(self, variables, given, z, times):
    del variables, z
    sound, of = given["sound"], given.get("row_times")
    if of is not None:
      assert of.shape == sound.shape[:2] == (1, 6)
      sound = sound[:, jnp.abs(times[0][:, None] - of[0]).argmin(1)]
    return jnp.broadcast_to(sound[..., None, None], (*times.shape, 2, 2, 3))


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
  np.testing.assert_array_equal(drawn(range(4)), whole[:4])
  np.testing.assert_array_equal(drawn([5, 2]), whole[[5, 2]])
  with pytest.raises(errors.UserError, match="'sound' is given of 6 times"):
    drawn(range(7))


@pytest.mark.parametrize(
  "change, words",
  [
    ({"name": "absent"}, "config.model.name: there is no 'absent'"),
    ({"name": "layers"}, "config.model.name: there is no 'layers'"),
    ({"variant": "Q"}, "config.model.variant is 'Q'"),
    ({"generator": {"wide": 3}}, "config.model.generator.wide"),
    ({"generator": {"widths": [4]}}, "not those of the model"),
  ],
)
def test_a_foreign_model_is_refused_in_a_line(change, words, tmp_path, capsys):
  """Of a later version, or of a checkpoint whose config was edited."""
  old = pathlib.Path(__file__).parent / "store" / "workdir_0_1"
  run = shutil.copytree(old, tmp_path / "run")
  path = run / "checkpoints" / "2" / "meta" / "metadata"
  meta = json.loads(path.read_text())
  del meta["crc"]
  config = json.loads(meta["metadata"]["config"])
  config["model"] |= change
  meta["metadata"]["config"] = json.dumps(config)
  crc = zlib.crc32(json.dumps(meta, sort_keys=True).encode())
  path.write_text(json.dumps(meta | {"crc": crc}))
  out = str(tmp_path / "clip.png")
  assert cli.main(["generate", str(run), "--out", out, "--num", "1"]) == 1
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1
