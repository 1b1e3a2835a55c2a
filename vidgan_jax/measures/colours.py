"""Whether one set of clips has red and blue exchanged, as OpenCV gives them."""

import numpy as np

# Two sets of real clips may by chance be a little more alike when one of them
# is exchanged. Two of 2,592 pairs of real sets pass these bounds, and three of
# four pairs of parts of one set, of which one is (benchmarks/colours.py).
_NEARER = 0.9  # Ratio of the distances, exchanged to as they are.
_OPPOSED = -0.7  # Cosine of what the exchange changes, between both sets.
_APART = 0.1  # Distance below which colours agree as they are.


def shares(video: np.ndarray) -> np.ndarray:
  """Shares of the pixels in boxes of 32 levels of red, green and blue.

  Args:
    video: (..., 3) uint8.

  Returns:
    (8, 8, 8), of sum 1.
  """
  boxes = (video.reshape(-1, 3) >> 5) @ [64, 8, 1]
  return (np.bincount(boxes, minlength=8**3) / len(boxes)).reshape(8, 8, 8)


def exchanged(fake: np.ndarray, real: np.ndarray) -> bool:
  """Whether one set fits the other with red and blue exchanged.

  The exchange leaves h(r, g, b) + h(b, g, r) of a set's shares h as it is, and
  turns the sign of d = h(r, g, b) - h(b, g, r). The distance alone does not
  tell: with few clips, or of other scenes, most of it is in the former. So
  both must hold: the exchanged set is nearer, and d of both are opposed.

  Args:
    fake: mean `shares` of the clips of one set.
    real: of the other.
  """
  turn = lambda h: h.transpose(2, 1, 0)
  straight = np.abs(fake - real).sum()
  crossed = np.abs(turn(fake) - real).sum()
  if straight <= _APART or crossed >= _NEARER * straight:
    return False
  ours, theirs = (h - turn(h) for h in (fake, real))
  size = np.linalg.norm(ours) * np.linalg.norm(theirs)
  return bool((ours * theirs).sum() < _OPPOSED * size)
