"""Public files of weights: their tensors, whatever program wrote them.

Files are read as data: of a pickle only tensors are rebuilt (see `pickles`),
and nothing in it is ever called. Tensors of large files stay on the disk until
they are wanted, so that a conversion takes the memory of its result, however
much else is in the file.
"""

import os
import pathlib
import zipfile

import numpy as np

from vidgan_jax import errors
from vidgan_jax.nets import pickles
from vidgan_jax.store import archives
from vidgan_jax.store import tensors as tensors_lib


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads the tensors of a public file, whatever its name says.

  Understood are safetensors; what `torch.save` and `torch.jit.save` write, now
  (a zip archive) and before PyTorch 1.6; .npz; pickled dicts of NumPy arrays,
  as users of Flax keep them; a TF-Hub module, SavedModel or TensorFlow
  checkpoint, through TensorFlow. Of a pickle nothing is executed.

  Args:
    path: a file, a folder, or the prefix of a TensorFlow checkpoint.

  Returns:
    name -> array. Names of nested dicts and modules are joined by dots, those
    around everything ('state_dict', 'model') left out. float16 and bfloat16
    become float32.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: it is damaged, or of a kind that is not read.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    tensors = _read_tensorflow(path)
  elif not path.exists() and path.with_name(f"{path.name}.index").exists():
    tensors = _read_tensorflow(path)
  else:
    with open(path, "rb") as file:
      head = file.read(512)
    if path.suffix == ".index" and path.with_suffix("").name:
      tensors = _read_tensorflow(path.with_suffix(""))
    elif head[:4] == b"PK\x03\x04":
      tensors = _read_zip(path)
    elif head[8:9] == b"{":
      tensors, _ = tensors_lib.load(path, mapped=True)
    elif head[:1] == b"\x80":
      tensors = pickles.read(path)
    elif head[257:262] == b"ustar":
      raise errors.UserError(
        f"{path} is a tar archive, as PyTorch before version 0.4 wrote them, "
        "which is not opened here. Where you trust it, save it anew: torch."
        "save(torch.load(OLD, map_location='cpu', weights_only=True), NEW)."
      )
    else:
      raise errors.UserError(
        f"{path} is of no kind that is read here: safetensors, PyTorch's zip "
        "archive or TorchScript, .npz, a pickled dict of NumPy arrays, a "
        "TF-Hub module, SavedModel or TensorFlow checkpoint. Is it damaged, or "
        "a web page saved in its place?"
      )
  if not tensors:
    raise errors.UserError(f"{path} holds no tensors.")
  for name, value in tensors.items():
    if value.dtype.kind not in "biuf":
      raise errors.UserError(
        f"{path}: {name!r} in it holds {value.dtype}, not plain numbers."
      )
  if path.is_file():  # Tensors may share a storage.
    archives.check_size(path, sum(value.nbytes for value in tensors.values()))
  return {
    name: value.astype(np.float32) if value.dtype == np.float16 else value
    for name, value in tensors.items()
  }


def _read_zip(path):
  """.npz, or an archive of PyTorch's."""
  try:
    with zipfile.ZipFile(path) as archive:
      archives.check(path, archive)
      inner = archive.namelist()
      for name in inner:
        if name.split("/")[1:] == ["data.pkl"]:
          return pickles.read_archive(archive, name, path)
  except errors.UserError:
    raise
  except Exception as e:  # A damaged archive can fail in any way.
    raise errors.UserError(
      f"{path} is a damaged archive: {errors.brief(e)}."
    ) from e
  if inner and all(name.endswith(".npy") for name in inner):
    return archives.arrays(path)
  raise errors.UserError(
    f"{path} is a zip archive, but neither PyTorch's nor one of .npy arrays."
  )


def _read_tensorflow(path):
  """Variables of a TF-Hub module, a SavedModel or a checkpoint."""
  prefix = path
  if path.is_dir():
    indices = sorted([*path.glob("*.index"), *path.glob("variables/*.index")])
    if len(indices) != 1:
      raise errors.UserError(
        f"The folder {path} is not a TF-Hub module, SavedModel or checkpoint: "
        f"it has {len(indices)} files *.index or variables/*.index, not one."
      )
    prefix = indices[0].with_suffix("")
  try:
    import tensorflow as tf
  except ImportError as e:
    raise errors.UserError(
      f"{path} is TensorFlow's, which has to be there to read it: "
      "pip install tensorflow."
    ) from e
  try:
    reader = tf.train.load_checkpoint(str(prefix))
    types = reader.get_variable_to_dtype_map()
    return {
      name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): np.asarray(
        reader.get_tensor(name), np.float32 if kind.is_floating else None
      )
      for name, kind in types.items()
      if kind.is_floating or kind.is_integer
    }
  except Exception as e:  # It raises anything.
    raise errors.UserError(
      f"{path} is a damaged checkpoint: {errors.brief(e)}."
    ) from e
