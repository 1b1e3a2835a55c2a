"""Sound as one row a frame: what is heard around the time of the frame.

A row says, of each quarter of the time from frame to frame, how loud it is in
each band of pitch and by how much it rises there: a sound that begins between
two frames is not lost. Nothing depends on the rest of the sound, so that a row
of a stream is that of the whole file.

Waves are mono, (S,) float32 in [-1, 1] at `RATE`, their first sample at time 0.
"""

from collections.abc import Sequence

import numpy as np

from vidgan_jax import rooms

RATE = 16000  # samples a second
BANDS = 40  # of pitch
PARTS = 4  # of a frame's time
FEATURES = PARTS * (BANDS + 1)
ENVELOPES = ("onset", "loud", "bass", "middle", "treble")
_WINDOW, _HOP = 400, 160  # samples: 25 and 10 ms
_RANGE = (55.0, 7600.0)  # Hz
# Decibels below a sine of full scale that count as silence. With much lower
# floors the decay of a tone counts as a chain of beginnings.
_FLOOR = 50.0
_CHUNK = 4096  # windows worked on together


def levels(wave: np.ndarray) -> np.ndarray:
  """Loudness of the bands every 10 ms, 0 for silence, about 1 for full scale.

  Of the power P_b of a Hann window of 25 ms in band b of the mel scale,
  2595 log10(1 + f / 700), and the floor F = 50 dB,

    level_b = 1 + 10 log10(P_b + 10^(-F / 10)) / F.

  Args:
    wave: (S,).

  Returns:
    (n, BANDS) float32; window k has its middle at k / 100 seconds.
  """
  count = len(wave) // _HOP + 1
  pad = _WINDOW // 2
  wave = np.pad(np.asarray(wave, np.float32), (pad, pad + _HOP))
  windows = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[::_HOP]
  hann = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
  filters = _filters()
  out = np.empty((count, BANDS), np.float32)
  for start in range(0, count, _CHUNK):
    part = windows[start : min(start + _CHUNK, count)] * hann
    # A sine of full scale has the power 1 in its bin.
    power = np.abs(np.fft.rfft(part) / (hann.sum() / 2)) ** 2
    decibels = 10 * np.log10(power @ filters + 10 ** (-_FLOOR / 10))
    out[start : start + len(part)] = 1 + decibels / _FLOOR
  return out


def _filters() -> np.ndarray:
  """Triangles on the mel scale: (bins, BANDS), at most 1."""
  mel = lambda f: 2595 * np.log10(1 + f / 700)
  bins = mel(np.fft.rfftfreq(_WINDOW, 1 / RATE))
  edges = np.linspace(*map(mel, _RANGE), BANDS + 2)
  rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
  fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
  triangles = np.minimum(rise, fall).clip(0)
  # Low bands are narrower than a bin: their nearest counts for them.
  middle = np.abs(bins[:, None] - edges[1:-1]).argmin(0)
  triangles[middle, np.arange(BANDS)] = 1
  return triangles.astype(np.float32)


def rows(wave: np.ndarray, times: Sequence[float], gap: float) -> np.ndarray:
  """The rows of frames.

  Frame t has the time from t - gap / 2 to t + gap / 2, in quarters; of each
  the mean level l_b of the bands and, p the quarter before, the rise
  mean_b max(l_b - p_b, 0).

  Args:
    wave: (S,); before its beginning and after its end it is silent.
    times: (T,) seconds of the frames.
    gap: seconds from frame to frame.

  Returns:
    (T, FEATURES) float32: of each quarter the BANDS levels and the rise.
  """
  level = levels(wave)
  # The integral of the levels, each constant for 10 ms around its middle.
  total = np.concatenate(
    [np.zeros((1, BANDS)), np.cumsum(level, 0, np.float64)]
  )
  edges = np.arange(-1, PARTS + 1) / PARTS - 0.5
  place = np.asarray(times, np.float64)[:, None] + gap * edges
  place = (place * RATE / _HOP + 0.5).clip(0, len(level))
  left = np.minimum(place.astype(int), len(level) - 1)
  at = total[left] + (place - left)[..., None] * level[left]
  width = gap / PARTS * RATE / _HOP
  parts = np.diff(at, axis=1) / width  # (T, PARTS + 1, BANDS)
  rise = np.diff(parts, axis=1).clip(0).mean(-1, keepdims=True)
  out = np.concatenate([parts[:, 1:], rise], -1)
  return out.reshape(len(out), FEATURES).astype(np.float32)


def envelope(
  wave: np.ndarray, times: Sequence[float], gap: float, what: str
) -> np.ndarray:
  """How much of something is heard at each frame, for what moves with it.

  Args:
    wave: (S,).
    times: (T,) seconds of the frames.
    gap: seconds from frame to frame.
    what: 'onset' (sounds that begin), 'loud', or 'bass', 'middle' or 'treble',
      the loudness of a third of the bands.

  Returns:
    (T,) float32 from 0 to about 1, the level that a twentieth of the frames
    is above. Each frame counts a fourth of its neighbours: smoothed to both
    sides, it does not lag.
  """
  rooms.check_name(what, ENVELOPES, "what is heard")
  parts = rows(wave, times, gap).reshape(len(times), PARTS, BANDS + 1)
  if what == "onset":
    value = parts[..., -1].max(-1)
  else:
    third = {"bass": 0, "middle": 1, "treble": 2}.get(what)
    bands = np.arange(BANDS) * 3 // BANDS
    value = parts[..., :-1].mean(1)
    value = value[:, (bands == third) | (third is None)].mean(-1)
  value = np.convolve(np.pad(value, 1, "edge"), [0.25, 0.5, 0.25], "valid")
  return (value / max(np.percentile(value, 95), 1e-3)).astype(np.float32)


def onsets(wave: np.ndarray) -> np.ndarray:
  """When sounds begin: (n,) seconds.

  Peaks of the rise from window to window, averaged over the bands, that are
  the highest within 50 ms and stand out of what is around them within 200 ms.
  """
  level = levels(wave)
  before = np.concatenate([np.zeros((2, BANDS)), level])
  # Over two windows: one alone half overlaps what was before.
  rise = (level - before[: len(level)]).clip(0).mean(-1)
  near, far = _around(rise, 5), _around(rise, 20)
  peak = (rise >= near.max(-1)) & (rise > 0.02 + 2 * np.median(far, -1))
  # A sound that is cut off ends with a click, which is not a beginning.
  peak[max(len(wave) - _WINDOW // 2, 0) // _HOP :] = False
  places = np.flatnonzero(peak)
  first = np.diff(places, prepend=-9) > 5  # of equal neighbours
  return places[first] * _HOP / RATE


def _around(x: np.ndarray, reach: int) -> np.ndarray:
  padded = np.pad(x, reach)
  return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
