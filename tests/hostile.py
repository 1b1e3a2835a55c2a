"""Files as nobody means them, for the tests of what reads files."""

import struct

import numpy as np


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
  """The bytes with a few flips, cuts, insertions, and sizes that lie."""
  data = bytearray(data)
  for _ in range(rng.integers(1, 4)):
    at, width = rng.integers(len(data)), rng.integers(1, 40)
    match rng.integers(6):
      case 0:
        data[at] ^= 1 << rng.integers(8)
      case 1:
        del data[max(at, 1) :]
      case 2:
        del data[at : at + width]
        data += b"\0"
      case 3:
        data[at:at] = rng.bytes(width)
      case 4:
        data[at : at + 8] = struct.pack("<Q", rng.integers(2**62))
      case 5:  # A digit of a header in text.
        digits = [i for i, c in enumerate(data) if 48 <= c < 58]
        if digits:
          data[rng.choice(digits)] = 48 + rng.integers(10)
  return bytes(data)
