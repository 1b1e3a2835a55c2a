"""Arrays of .npy and .npz, and zip archives, from whoever wrote them.

A few megabytes of zip can unfold to gigabytes, and the header of an array can
claim any shape. So sizes are compared with the file before memory is taken.
"""

import math
import os
import zipfile

import numpy as np

from vidgan_jax import errors

_RATIO = 64  # Times its own size that a file may unfold to ...
_FREE = 1 << 28  # ... beyond these bytes, which any file may.


def check_size(path: str | os.PathLike, unfolded: int) -> None:
  """Refuses what would take far more memory than its file has bytes.

  Raises:
    UserError: it would.
  """
  size = os.path.getsize(path)
  if unfolded > max(_FREE, _RATIO * size):
    raise errors.UserError(
      f"{path} has {size / 2**20:.1f} MiB and would unfold to "
      f"{unfolded / 2**20:,.0f} MiB, more than {_RATIO} times as much: it is "
      "not read. If that is right, write it anew without compression."
    )


def check(path: str | os.PathLike, archive: zipfile.ZipFile) -> None:
  """Refuses an archive that unfolds to far more than its file.

  Raises:
    UserError: it does, or is compressed in a way that cannot be bounded.
  """
  check_size(path, sum(info.file_size for info in archive.infolist()))
  for info in archive.infolist():
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      raise errors.UserError(
        f"{path}: {info.filename!r} in it is compressed in a way that is not "
        "read here: write the archive anew, deflated or not compressed."
      )


def arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The arrays of a .npz; that of a .npy, called '', stays on the disk.

  Raises:
    OSError: the file cannot be read.
    UserError: it is damaged, holds Python's objects, or unfolds to far more
      than the file.
  """
  with open(path, "rb") as file:
    zipped = file.read(2) == b"PK"
  try:
    if not zipped:
      return {"": np.lib.format.open_memmap(path, mode="r")}
    with zipfile.ZipFile(path) as archive:
      check(path, archive)
      return {
        info.filename.removesuffix(".npy"): _member(archive, info)
        for info in archive.infolist()
      }
  except errors.UserError:
    raise
  except Exception as e:  # A damaged header can fail in any way.
    raise errors.UserError(
      f"{path} is empty, damaged or no array ({errors.brief(e)}): write it "
      "anew with numpy.save or numpy.savez."
    ) from e


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
  """An array of an archive, whose header says the size that it has."""
  with archive.open(info) as file:
    version = np.lib.format.read_magic(file)
    read = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(file)
    size = info.file_size - file.tell()
    # Python's objects are refused below, whatever their size.
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != size:
      raise ValueError(f"{info.filename} is not as large as its header says")
  with archive.open(info) as file:
    return np.lib.format.read_array(file, allow_pickle=False)
