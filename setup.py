"""Metadata of the package; tool settings live in pyproject.toml."""

import pathlib
import re

import setuptools

_HERE = pathlib.Path(__file__).parent
_VERSION = re.search(
  r'__version__ = "(.+)"', (_HERE / "vidgan_jax/__init__.py").read_text()
).group(1)

# tf.data, TFDS and clu's writers need TensorFlow, and none of them declares
# it. The `tensorflow-cpu` wheel exists for x86-64 Linux alone. Where a
# TensorFlow is there already (Colab), leave this extra out: see
# colab/train.ipynb.
_TENSORFLOW = [
  "tensorflow-cpu>=2.20; sys_platform == 'linux'"
  " and platform_machine == 'x86_64'",
  "tensorflow>=2.20; sys_platform != 'linux' or platform_machine != 'x86_64'",
]

_BASELINES = ["imageio-ffmpeg", "opencv-python-headless"]
_TEXT = ["tokenizers"]

setuptools.setup(
  name="vidgan_jax",
  version=_VERSION,
  description="Train, measure and use GANs on video, in JAX and Flax.",
  long_description=(_HERE / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  package_data={
    "vidgan_jax.reports": ["*.css"],
    "vidgan_jax.study": ["page.html"],
    "vidgan_jax.web": ["paint.html"],
    "vidgan_jax.zoo": ["*.safetensors", "*.md"],
  },
  packages=setuptools.find_packages(include=["vidgan_jax", "vidgan_jax.*"]),
  install_requires=[
    "absl-py",
    "array-record; sys_platform != 'win32'",
    "av>=18",
    "clu>=0.0.12",
    "flax>=0.12,<0.13",
    # TFDS imports it in every builder that lives in a package and does not
    # declare it.
    "importlib_resources",
    "jax>=0.10,<0.13",
    "ml-collections>=1.0",
    "numpy",
    "optax>=0.2.5,<0.3",
    "orbax-checkpoint>=0.12,<1",
    "pillow",
    "scipy",
    "tensorboard",
    "tensorflow-datasets>=4.9.9",
  ],
  extras_require={
    "tf": _TENSORFLOW,
    "cuda": ["jax[cuda12]"],
    "tpu": ["jax[tpu]"],
    # Classical answers that evaluation measures beside a model.
    "baselines": _BASELINES,
    # Reads a user's tokenizer.json, of a vocabulary or of a text network.
    "text": _TEXT,
    # Other implementations that tests of networks compare with. Without them
    # they skip; pip's newest torch brings gigabytes of CUDA along on Linux.
    "parity": [
      "torch==2.13.0; python_version < '3.12'",
      "transformers>=5,<6; python_version < '3.12'",
    ],
    # `tfds build` needs mlcroissant; Beam is for clusters.
    "beam": ["apache-beam", "mlcroissant"],
    "test": [
      *_BASELINES,
      *_TEXT,
      "ipykernel",
      "nbclient",
      "nbformat",
      "pytest",
      "pytest-xdist",
      "ruff",
      "safetensors",
      "scikit-image",
    ],
  },
  entry_points={"console_scripts": ["vidgan = vidgan_jax.cli:main"]},
)
