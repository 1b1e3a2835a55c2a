"""Trained weights that come with the package, one file and one card each.

NAME.safetensors holds the averaged generator in bfloat16, and as its metadata
what `vidgan train` wrote beside it: config, classes, times. NAME.md, the model
card, says how it was trained and for how long, its figures and its limits; the
footage is in DATA.md.

  python -m vidgan_jax.zoo WORKDIR NAME     makes NAME.safetensors of a run
"""

import json
import pathlib

from flax import traverse_util
import jax.numpy as jnp
import safetensors
from safetensors import flax as safetensors_flax

from vidgan_jax import config as config_lib
from vidgan_jax import sampler
from vidgan_jax.store import files

FOLDER = pathlib.Path(__file__).parent


def names() -> list[str]:
  """What there is."""
  return sorted(p.stem for p in FOLDER.glob("*.safetensors"))


def load(name: str) -> sampler.Model:
  """Loads shipped weights.

  Args:
    name: one of `names()`, or the path of such a file.

  Raises:
    ConfigError: there is no such file.
  """
  path = pathlib.Path(name)
  if path.suffix != ".safetensors":
    config_lib.check_name(name, names(), "the name of the weights")
    path = FOLDER / f"{name}.safetensors"
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      facts = json.loads(file.metadata()["facts"])
  except (safetensors.SafetensorError, TypeError, KeyError, ValueError):
    raise config_lib.ConfigError(
      f"{path} is damaged, or no file that `python -m vidgan_jax.zoo` wrote."
    ) from None
  flat = {
    key: value.astype(jnp.float32)
    for key, value in safetensors_flax.load_file(path).items()
  }
  return sampler.build(traverse_util.unflatten_dict(flat, sep="/"), facts)


def export(workdir: str, path: pathlib.Path) -> None:
  """Writes the newest averaged generator of a run to a file."""
  from vidgan_jax.store import checkpoint

  saved = checkpoint.restore_params(workdir)
  flat = {
    name: value.astype(jnp.bfloat16)
    for name, value in traverse_util.flatten_dict(saved.params, sep="/").items()
  }
  config = config_lib.from_json(saved.metadata["config"])
  config.data.options = {}  # Where the data lay is nobody's business.
  facts = saved.metadata | {
    "step": saved.step,
    "config": config_lib.to_json(config),
  }
  # `save_file` would let nobody else read it.
  metadata = {"facts": json.dumps(facts)}
  files.write_bytes(path, safetensors_flax.save(flat, metadata=metadata))
