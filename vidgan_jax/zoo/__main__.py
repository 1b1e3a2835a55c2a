"""`python -m vidgan_jax.zoo WORKDIR NAME`: weights of a run for the package."""

import sys

from vidgan_jax import zoo

workdir, name = sys.argv[1:]
zoo.export(workdir, zoo.FOLDER / f"{name}.safetensors")
