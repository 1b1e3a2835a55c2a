"""Arrays of files that others have made: read whole, or refused in a line."""

import hostile
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax.store import archives

CLIPS = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 5, 3), np.uint8)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_damage_is_refused_in_a_line(save, tmp_path):
  path = tmp_path / ("a.npy" if save is np.save else "a.npz")
  save(path, CLIPS)
  good, rng = path.read_bytes(), np.random.default_rng(0)
  [array] = archives.arrays(path).values()
  np.testing.assert_array_equal(array, CLIPS)
  refused = 0
  for _ in range(200):
    path.write_bytes(hostile.damaged(good, rng))
    try:
      archives.arrays(path)
    except errors.UserError as e:
      refused += 1
      assert str(path) in str(e) and "\n" not in str(e)
  assert refused > 40
  with pytest.raises(FileNotFoundError):
    archives.arrays(tmp_path / "nothing.npy")


def test_what_compresses_well_is_read_while_it_is_small(tmp_path):
  clips = np.zeros((4, 16, 64, 64, 3), np.uint8)
  np.savez_compressed(tmp_path / "black.npz", clips=clips, names=["a", "b"])
  read = archives.arrays(tmp_path / "black.npz")
  np.testing.assert_array_equal(read["clips"], clips)
  assert read["names"].tolist() == ["a", "b"]
