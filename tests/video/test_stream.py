"""Windows in space and time against the whole video at once."""

import dataclasses
import fractions
import itertools
import threading
import time

import numpy as np
import pytest

from vidgan_jax.video import read
from vidgan_jax.video import stream


@dataclasses.dataclass
class Toy(stream.Stage):
  """A box filter in space and time, enlarged; borders are repeated.

  What it gives depends on every pixel of its halo, on whether it is at a
  border, and on the times.
  """

  pixels: int = 2
  before: int = 1
  after: int = 2
  scale: int = 1
  rate: int = 1
  align: int = 1
  name: str = "toy"
  seen: set = dataclasses.field(default_factory=set)
  fail_above: int = 10**9

  @property
  def halo(self):
    # Between frames i and i+1 it looks as far as either.
    return self.pixels, self.before, self.after + (self.rate > 1)

  def __call__(self, video, times, mask):
    t, h, w, _ = video.shape
    if h * w > self.fail_above:
      raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
    assert not h % self.align and not w % self.align
    self.seen.add(video.shape)
    video = video + (0 if mask is None else 0.1 * mask)
    p, b, a = self.pixels, self.before, self.after
    wide = np.pad(video, ((b, a), (p, p), (p, p), (0, 0)), "edge")
    out = sum(
      wide[i : i + t, j : j + h, k : k + w] * (1 + i + 2 * j + 3 * k)
      for i in range(1 + b + a)
      for j in range(1 + 2 * p)
      for k in range(1 + 2 * p)
    )
    out = out / 500 + 0.1 * np.sin(times)[:, None, None, None]
    if self.rate > 1:
      parts = [
        (1 - k / self.rate) * out[:-1] + k / self.rate * out[1:]
        for k in range(self.rate)
      ]
      both = np.stack(parts, 1).reshape(-1, *out.shape[1:])
      out = np.concatenate([both, out[-1:]])
    return out.repeat(self.scale, 1).repeat(self.scale, 2)


def make(count, height=13, width=17, shots=(), seed=0, mask=False):
  rng = np.random.default_rng(seed)
  times = np.cumsum(rng.integers(20, 60, count))
  out = []
  for i in range(count):
    out.append(
      stream.Frame(
        time=fractions.Fraction(int(times[i]), 1000),
        duration=fractions.Fraction(1, 25),
        shot=sum(i >= s for s in shots),
        image=rng.integers(0, 256, (height, width, 3), np.uint8),
        mask=rng.random((height, width)) < 0.3 if mask else None,
      )
    )
  return out


def whole(stage, frames):
  """One shot at once, padded to the stage's alignment."""
  height, width = frames[0].image.shape[:2]
  rows, columns = -height % stage.align, -width % stage.align
  pad = lambda a: np.pad(
    a, ((0, rows), (0, columns)) + ((0, 0),) * (a.ndim - 2), "edge"
  )
  video = np.stack([pad(f.image) for f in frames]) / 127.5 - 1
  mask = None
  if frames[0].mask is not None:
    mask = np.stack([pad(f.mask) for f in frames])[..., None] * 1.0
  times = np.array([float(f.time - frames[0].time) for f in frames])
  out = stage(video.astype(np.float32), times, mask)
  out = np.clip(np.rint((out + 1) * 32767.5), 0, 65535)
  return out[:, : height * stage.scale, : width * stage.scale]


def run(stage, frames, skip=0, **plan):
  runner = stream.Runner(stage, deep=True, **plan)
  # What is given is changed on the way.
  given = (dataclasses.replace(f) for f in frames)
  return list(runner(given, skip)), runner


def near(frames, wanted):
  got = np.stack([f.image for f in frames]).astype(np.float64)
  return got.shape == wanted.shape and np.abs(got - wanted).max() <= 1


@pytest.mark.parametrize("tile", [4, 5, 8, 64])
@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.parametrize("align", [1, 4])
def test_windows_give_what_the_whole_video_gives(tile, chunk, align):
  stage = Toy(align=align, scale=2)
  frames = make(11, mask=True)
  wanted = whole(stage, frames)
  stage.seen.clear()
  got, _ = run(stage, frames, tile=tile, chunk=chunk)
  assert near(got, wanted)
  assert [f.time for f in got] == [f.time for f in frames]
  assert len(stage.seen) == 1  # one shape compiles once
  assert got[0].mask.shape == got[0].image.shape[:2]


def test_a_halo_that_is_too_small_is_noticed():
  # The test above could not fail otherwise.
  stage = Toy()
  frames = make(11)
  wanted = whole(stage, frames)

  class Short(Toy):
    halo = (1, 1, 2)

  assert not near(run(Short(), frames, tile=4)[0], wanted)
  Short.halo = (2, 1, 1)
  assert not near(run(Short(), frames, chunk=2)[0], wanted)


@pytest.mark.parametrize("chunk", [1, 4])
def test_nothing_crosses_a_cut(chunk):
  stage = Toy()
  frames = make(17, shots=(5, 6))
  wanted = np.concatenate(
    [whole(stage, frames[a:b]) for a, b in ((0, 5), (5, 6), (6, 17))]
  )
  assert near(run(stage, frames, chunk=chunk)[0], wanted)


@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.parametrize("rate", [2, 3])
def test_frames_between_frames(chunk, rate):
  stage = Toy(rate=rate, after=1)
  frames = make(12, shots=(5,))
  got, _ = run(stage, frames, chunk=chunk)
  a, b = whole(stage, frames[:5]), whole(stage, frames[5:])
  hold = a[-1:].repeat(rate - 1, 0)  # nothing is made up across the cut
  assert near(got, np.concatenate([a, hold, b]))
  assert len(got) == (len(frames) - 1) * rate + 1
  assert [f.time for f in got[::rate]] == [f.time for f in frames]
  times = np.array([float(f.time) for f in got])
  assert np.all(np.diff(times) > 0)
  for i in range(len(frames) - 1):
    steps = np.diff(times[i * rate : i * rate + rate + 1])
    np.testing.assert_allclose(steps, steps[0])
  ends = [f.time + f.duration for f in got]
  assert ends[:-1] == [f.time for f in got[1:]]


@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.parametrize("skip", [0, 1, 7, 16, 30])
def test_results_that_exist_are_not_computed_again(rate, skip):
  stage = Toy(rate=rate)
  frames = make(23, shots=(9, 12))
  wanted, runner = run(stage, frames, chunk=3)
  needs = runner.needs(skip)
  some = [dataclasses.replace(f) for f in frames]
  for frame in some[:needs]:
    frame.image = None
  got, _ = run(stage, some, skip, chunk=3)
  assert [f.time for f in got] == [f.time for f in wanted]
  for a, b in zip(got[skip:], wanted[skip:]):
    np.testing.assert_array_equal(a.image, b.image)
  if skip == 30 and rate == 1:
    assert all(f.image is None for f in got[:6])


def test_stages_in_a_row():
  first, second = Toy(scale=2), Toy(pixels=1, before=2, after=0)
  frames = make(10)
  middle, _ = run(first, frames, tile=64, chunk=50)
  wanted, _ = run(second, middle, tile=64, chunk=50)
  a = stream.Runner(first, tile=5, chunk=2, deep=True)
  b = stream.Runner(second, tile=9, chunk=3, deep=True)
  got = list(b(a(dataclasses.replace(f) for f in frames)))
  assert near(got, np.stack([f.image for f in wanted]).astype(float))


def test_out_of_memory_halves_the_tile_and_goes_on():
  stage, lines = Toy(), []
  frames = make(9, 90, 70)
  wanted = whole(stage, frames)
  stage.fail_above = 30 * 30
  got, runner = run(stage, frames, tell=lines.append)
  assert near(got, wanted)
  assert 16 <= runner.tile <= 26
  assert "out of memory" in lines[0]
  stage.fail_above = 10
  with pytest.raises(read.VideoError, match="memory does not suffice"):
    run(stage, frames)
  with pytest.raises(ZeroDivisionError):
    run(type("Bad", (Toy,), {"__call__": lambda *a: 1 / 0})(), frames)


def test_the_tile_follows_from_the_memory():
  small = run(Toy(), make(1, 300, 300), memory=2**24)[1].tile
  large = run(Toy(), make(1, 300, 300), memory=2**31)[1].tile
  assert 32 <= small < 300 < large
  # A wide frame that fits is one window.
  runner = stream.Runner(Toy(), memory=2**24)
  area = 2**24 // (Toy.cost * runner.window)
  assert runner.cover(8, area // 8)[0] == (8, area // 8)


# --------------------------------------------------------------- recurrent


@dataclasses.dataclass
class Fading(stream.Stage):
  """What was seen fades, pixel by pixel: an average over all the past."""

  halo: tuple = (0, 0, 0)
  scale: int = 2
  name = "fading"
  recurrent = True
  fail_above: int = 10**9
  starts: int = 0

  def __call__(self, video, times, mask, state=None):
    assert len(video) == len(times)
    if video[0, ..., 0].size > self.fail_above:
      raise MemoryError
    self.starts += state is None
    out = []
    for frame in video:
      state = frame if state is None else 0.7 * state + 0.3 * frame
      out.append(state)
    return np.stack(out).repeat(self.scale, 1).repeat(self.scale, 2), state


def remembered(frames):
  """All at once, with NumPy alone."""
  video = np.stack([f.image for f in frames]) / 127.5 - 1
  out, _ = Fading()(video, np.zeros(len(video)), None)
  return np.rint((out + 1) * 32767.5)


@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.parametrize("tile", [4, 64])
def test_a_recurrent_stage_remembers_until_the_cut(chunk, tile):
  frames = make(17, shots=(5, 6))
  wanted = np.concatenate(
    [remembered(frames[a:b]) for a, b in ((0, 5), (5, 6), (6, 17))]
  )
  stage = Fading(halo=(2, 0, 0))
  got, runner = run(stage, frames, chunk=chunk, tile=tile)
  assert near(got, wanted)
  assert runner.temporal and runner.window == 1
  window = tile + 2 * 2
  tiles = [len(list(stream.spans(size, window, 2))) for size in (13, 17)]
  assert stage.starts == 3 * tiles[0] * tiles[1]
  assert not near(got, remembered(frames))


def test_results_of_a_recurrent_stage_that_exist_are_made_again():
  frames = make(12, shots=(4,))
  wanted, runner = run(Fading(), frames)
  # Its memory cannot be had otherwise, so no image may be missing.
  assert runner.needs(9) == 0
  got, _ = run(Fading(), frames, 9)
  for a, b in zip(got, wanted):
    np.testing.assert_array_equal(a.image, b.image)


def test_tiles_that_remember_each_for_itself_are_told_of():
  frames, lines = make(6, 90, 70), []
  stage = Fading()
  got, runner = run(stage, frames, tell=lines.append)
  assert not lines and runner.tile >= 90
  stage.fail_above = 50 * 50
  again, runner = run(stage, frames, tell=lines.append)
  assert len(lines) == 1 and "out of memory, tiles of 45, which" in lines[0]
  # What a pixel remembers here is its own past, so that nothing shows.
  assert near(again, np.stack([f.image for f in got]).astype(float))
  lines.clear()
  cost = 600 * 64 * 64
  run(Fading(), make(2, 200, 150), memory=cost, tell=lines.append)
  assert len(lines) == 1 and "do not fit into memory, tiles of 64," in lines[0]


@pytest.mark.parametrize("size", [1, 7, 16, 50])
@pytest.mark.parametrize("halo", [0, 2, 5])
def test_spans_cover_everything_once(size, halo):
  for window in range(2 * halo + 1, 60):
    low = 0
    for start, a, b in stream.spans(size, window, halo):
      end = min(start + window, size)
      assert a == low < b <= end and 0 <= start
      assert start == 0 or a - start >= halo
      assert end == size or end - b >= halo
      assert size < window or end - start == window
      low = b
    assert low == size


def test_integers_survive_and_are_rounded():
  for kind in (np.uint8, np.uint16):
    every = np.arange(np.iinfo(kind).max + 1).astype(kind)
    back = stream.to_integer(stream.to_float(every), kind)
    np.testing.assert_array_equal(back, every)
  odd = np.array([-2, 2, np.inf, -np.inf], np.float32)
  assert stream.to_integer(odd, np.uint8).tolist() == [0, 255, 255, 0]


def test_background_keeps_order_bounds_and_errors():
  made = []

  def items():
    for i in itertools.count():
      made.append(i)
      yield i

  ahead = stream.background(items(), 3)
  assert [next(ahead) for _ in range(5)] == list(range(5))
  time.sleep(0.2)
  assert len(made) <= 5 + 3 + 2
  count = threading.active_count()
  ahead.close()
  assert threading.active_count() < count

  dropped = []
  hurry = stream.background(iter(range(50)), 4, drop=lambda: dropped.append(1))
  first = next(hurry)
  time.sleep(0.2)
  rest = list(hurry)
  # The newest are kept, in order, and what is missing was counted.
  assert rest == sorted(rest) and rest[-3:] == [47, 48, 49]
  assert 1 + len(rest) + len(dropped) == 50 and len(rest) <= 5 and first >= 0

  def broken():
    yield 1
    raise KeyError("gone")

  got = stream.background(broken(), 2)
  assert next(got) == 1
  with pytest.raises(KeyError, match="gone"):
    next(got)
