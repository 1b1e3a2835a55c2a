"""Trained weights that come with the package, one file and one card each.

NAME.safetensors holds the averaged generator in bfloat16, the record of where
it comes from (`store.provenance`) and a digest of both. NAME.md, the model
card, says how it was trained and for how long, its figures and its limits; the
footage is in DATA.md. Names with a hyphen, as sprites-text, draw clips (`vidgan
generate`); the others work on footage (`vidgan process`).

  python -m vidgan_jax.zoo WORKDIR NAME     makes NAME.safetensors of a run
"""

import json
import os
import pathlib

from flax import traverse_util
import jax.numpy as jnp

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax import sampler
from vidgan_jax.store import provenance
from vidgan_jax.store import tensors

FOLDER = pathlib.Path(__file__).parent


def names() -> list[str]:
  """What there is."""
  return sorted(p.stem for p in FOLDER.glob("*.safetensors"))


def find(
  name: str, step: int | None = None, weights: str = "ema"
) -> sampler.Sampler:
  """Loads a run, or shipped weights if no folder has their name.

  Args:
    name: a workdir, one of `names()`, or the path of such a file.
    step: of the checkpoint; None is the newest good one.
    weights: 'ema' or 'raw'.

  Raises:
    UserError: there is no such run, or it has no such checkpoint.
  """
  file = name.endswith(".safetensors")
  if os.path.isdir(name) or not (file or name in names()):
    if not (os.path.exists(name) or os.path.dirname(name)):
      drawn = [known for known in names() if "-" in known]
      raise errors.UserError(
        f"{name}: there is no such workdir, and no weights of this name are "
        f"shipped. {rooms.nearest(name, drawn)}"
      )
    return sampler.load(name, step, weights)
  if step is not None or weights != "ema":
    raise errors.UserError(
      f"--step, --weights: the shipped weights {name} are averaged ones of one "
      "step; leave both out."
    )
  return load(name)


def load(name: str) -> sampler.Sampler:
  """Loads shipped weights.

  Args:
    name: one of `names()`, or the path of such a file.

  Raises:
    ConfigError: there is no such file.
  """
  path = pathlib.Path(name)
  if path.suffix != ".safetensors":
    rooms.check_name(name, names(), "the name of the weights")
    path = FOLDER / f"{name}.safetensors"
  try:
    flat, facts = tensors.load(path)
    record = json.loads(facts["facts"])
    flat = {name: jnp.asarray(x, jnp.float32) for name, x in flat.items()}
    params = traverse_util.unflatten_dict(flat, sep="/")
  except (KeyError, ValueError, TypeError):
    raise config_lib.ConfigError(
      f"{path} is damaged, or not a file that `python -m vidgan_jax.zoo` "
      "wrote: install the package again, or bring the file back from a copy."
    ) from None
  return sampler.build(params, provenance.from_json(record))
