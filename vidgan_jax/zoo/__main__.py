"""`python -m vidgan_jax.zoo WORKDIR NAME`: weights of a run for the package."""

import dataclasses
import json
import pathlib
import sys

from flax import traverse_util
import jax.numpy as jnp
import numpy as np

from vidgan_jax import zoo
from vidgan_jax.store import checkpoint
from vidgan_jax.store import provenance
from vidgan_jax.store import tensors


def export(workdir: str, path: pathlib.Path) -> None:
  """Writes the newest averaged generator of a run to a file."""
  saved = checkpoint.restore_params(workdir)
  flat = traverse_util.flatten_dict(saved.tree, sep="/")
  flat = {name: np.asarray(x.astype(jnp.bfloat16)) for name, x in flat.items()}
  record = provenance.from_json(saved.metadata)
  record.config.data.options = {}  # Where the data lay is nobody's business.
  record = dataclasses.replace(record, step=saved.step)
  tensors.save(path, flat, {"facts": json.dumps(record.to_json())})


if __name__ == "__main__":
  export(sys.argv[1], zoo.FOLDER / f"{sys.argv[2]}.safetensors")
