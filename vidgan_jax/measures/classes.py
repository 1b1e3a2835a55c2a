"""What a classifier makes of generated clips: the Inception score."""

import numpy as np
from scipy import special

from vidgan_jax.measures import intervals
from vidgan_jax.measures import points


def inception_score(logits: np.ndarray, splits: int = 10) -> intervals.Spread:
  """Inception score, exp E KL(p(y|x) | p(y)), over splits.

  Salimans et al. 2016, section 4; the splits are consecutive and p(y) is that
  of each, so the order of the clips must not depend on their class. The score
  rises with their number.

  Args:
    logits: (N, classes), before softmax.
    splits: how many; mean and deviation are over them.
  """
  logits = points.checked(logits, splits)
  log = logits - special.logsumexp(logits, 1, keepdims=True)
  scores = []
  for part in np.array_split(log, splits):
    marginal = special.logsumexp(part, 0) - np.log(len(part))
    divergence = (np.exp(part) * (part - marginal)).sum(1)
    scores.append(np.exp(divergence.mean()))
  return intervals.Spread(float(np.mean(scores)), float(np.std(scores)))
