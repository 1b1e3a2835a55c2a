"""Folders of clips -> a study in which nothing but content differs.

Every clip is written anew as H.264 in MP4, which browsers play: one size, one
frame rate, one length, one quality, no name. The common size is the smallest
one (the others are reduced by area averaging), the rate that of the slowest
system, the length that of the shortest clip; nothing is enlarged but by whole
numbers, so that no player's smoothing flatters small clips. `make` warns of a
rate that does not divide a system's: it makes the motion of that one uneven.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import math
import os
import pathlib
import statistics

import numpy as np

import vidgan_jax
from vidgan_jax.store import files
from vidgan_jax.study import store
from vidgan_jax.video import folder as folder_lib
from vidgan_jax.video import read
from vidgan_jax.video import write

_PAIRS = 20  # that a rater sees unless another number is asked for
_CRF = 10  # of H.264: no visible loss
_SHOWN = 256  # pixels of the shorter side that a file has at least
_CHECK_BLOCKS = 8  # what a ruined clip has left of its shorter side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How a study is made.

  Attributes:
    question: what raters are asked.
    pairs: how many a rater sees; None: 20, or as many as the clips make.
    ties: may a rater see no difference?
    checks: attention checks a rater gets beside the pairs.
    check: 'degraded' (a clip against itself as one frame of coarse blocks; the
      clip must win) or 'same' (a clip against itself; only a tie is right).
    failures: raters who fail more checks than this are left out. It is fixed
      before the first answer is known.
    match: 'names' (clips of one name are a pair), 'random', or 'auto' (by name
      if all names agree, at random if none does).
    clips: of each system at most; drawn at random.
    size: shorter side in pixels; None: that of the smallest clip.
    square: cut the middle square out of every clip.
    fps: frames a second; None: of the slowest system.
    seconds: length; None: that of the shortest clip.
    seed: of every random draw, those of the raters included.
  """

  question: str = "Which clip looks more real?"
  pairs: int | None = None
  ties: bool = True
  checks: int = 3
  check: str = "degraded"
  failures: int = 0
  match: str = "auto"
  clips: int = 50
  size: int | None = None
  square: bool = False
  fps: float | None = None
  seconds: float | None = None
  seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Clip:
  """One input, decoded once to know what it truly is."""

  path: pathlib.Path
  height: int
  width: int
  fps: float
  seconds: float


def make(
  folder: str | os.PathLike[str],
  systems: Mapping[str, str | os.PathLike[str]],
  options: Options,
  log=print,
) -> store.Study:
  """Makes a study.

  Args:
    folder: appears when the study is whole; must not exist, or be empty.
    systems: name -> folder of clips, at least two.
    options: see there.
    log: gets lines about what is done to whose clips.

  Raises:
    StudyError: the clips do not make a fair study; says why.
  """
  folder = pathlib.Path(folder)
  _check(folder, systems, options)
  rng = np.random.default_rng(options.seed)
  scans = [_scan(name, where, log) for name, where in systems.items()]
  match = _matching(list(systems), scans, options.match)
  pairs = _pairs(scans, match, options.clips, rng)
  asked, seen = options.pairs, min(options.pairs or _PAIRS, len(pairs))
  if seen < (asked or _PAIRS):
    counts = ", ".join(f"{n}: {len(s)}" for n, s in zip(systems, scans))
    few = f"the clips ({counts}) make {len(pairs)} different pairs"
    if asked:
      raise store.StudyError(
        f"--pairs {asked}: {few}; ask for fewer (--pairs {seen}) or give more "
        "clips."
      )
    log(f"A rater sees {seen} pairs, not {_PAIRS}: {few}.")
  used = sorted({clip for pair in pairs for clip in pair})
  clips = {(i, key): _measure(scans[i][key], options) for i, key in used}
  video = _common(list(systems), clips, options)
  for line in _changes(list(systems), clips, video):
    log(line)
  uneven = _uneven(list(systems), clips, video)
  if uneven:
    log(
      f"warning: at {video['fps']:g} frames/s, frames of {', '.join(uneven)} "
      "are left out or shown twice at uneven steps: that motion judders, for "
      "no fault of the system. Make the clips of all systems anew at one rate, "
      "or give an --fps that all rates are whole multiples of."
    )

  # Files are called at random, and so say nothing of their system.
  names = {clip: f"{rng.bytes(8).hex()}.mp4" for clip in used}
  with files.write(folder) as part:
    entries, checks = _write(part / "clips", names, clips, video, options, rng)
    fields = {
      "format": store.FORMAT,
      "made_by": vidgan_jax.__version__,
      "question": options.question.strip(),
      "ties": options.ties,
      "pairs_per_rater": seen,
      "check": options.check,
      "failures": options.failures,
      "seed": options.seed,
      "systems": list(systems),
      "video": video,
      "pairs": [[names[a], names[b]] for a, b in pairs],
      "checks": checks,
      "clips": dict(sorted(entries.items())),
      "facts": {
        "match": match,
        "folders": {name: os.fspath(f) for name, f in systems.items()},
        "found": {name: len(scan) for name, scan in zip(systems, scans)},
        "uneven": uneven,
      },
    }
    text = json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False)
    (part / "study.json").write_text(text + "\n", "utf-8")
  how = {"names": "by name", "random": "at random"}[match]
  log(
    f"{len(pairs)} pairs, matched {how}; {seen} and {options.checks} "
    f"checks a rater; {video['width']}x{video['height']}, {video['frames']} "
    f"frames at {video['fps']:g} a second"
  )
  return store.load(folder)


def _check(folder, systems, options) -> None:
  """Refuses what cannot become a study before any clip is read."""
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise store.StudyError(
      f"{folder} is there already: choose another name, or move it away (with "
      "its answers, if it is a study)."
    )
  if len(systems) < 2:
    raise store.StudyError("A study compares two systems or more.")
  for name in systems:
    if not name.isprintable() or not 0 < len(name) <= 40:
      raise store.StudyError(
        f"the name {name!r}: give 1 to 40 printable characters."
      )
  if not options.question.strip() or len(options.question) > 300:
    raise store.StudyError("--question: give 1 to 300 characters.")
  for name, low, high in (
    ("pairs", 1, 1000),
    ("checks", 0, 100),
    ("failures", 0, 100),
    ("clips", 1, 10_000),
    ("size", 8, 4096),
    ("fps", 0.1, 240),
    ("seconds", 0.01, 600),
    ("seed", 0, 2**63),
  ):
    value = getattr(options, name)
    if value is not None and not low <= value <= high:
      raise store.StudyError(
        f"--{name} {value:g}: give a number from {low} to {high}."
      )
  if options.check == "same" and options.checks and not options.ties:
    raise store.StudyError(
      "--check same asks about two equal clips, where only a tie is right: "
      "leave out --no-ties, or take --check degraded."
    )


# ------------------------------------------------------------ which clips


def _scan(
  name: str, where: str | os.PathLike[str], log
) -> dict[str, pathlib.Path]:
  """Clips of a folder: path below it without suffix -> file."""
  try:
    _, sources = folder_lib.scan(where, "videos")
    images = {s.file for s in folder_lib.scan(where, "strips")[1]}
  except folder_lib.FolderError as error:
    raise store.StudyError(f"{name}: {error}") from None
  clips = {}
  for source in sources:
    key = os.path.splitext(source.file)[0]
    path = pathlib.Path(where) / source.file
    if key in clips:
      raise store.StudyError(
        f"{name}: {clips[key]} and {path} have the same name but for the "
        "suffix: take one of them away."
      )
    clips[key] = path
  if not clips:
    raise store.StudyError(
      f"{name}: {where} holds no video file; give the folder of the clips "
      "(.mp4, .webm, .gif and whatever else holds video)."
    )
  images -= {source.file for source in sources}
  if images:
    log(
      f"warning: {name}: {len(images)} images in {where}, as {min(images)}, "
      f"are passed over, and its {len(clips)} videos taken: where images are "
      "the frames of clips, make videos of them first."
    )
  return clips


def _matching(
  names: Sequence[str], scans: Sequence[Mapping], match: str
) -> str:
  """'names' or 'random'; refuses names that agree only in part."""
  if match == "random":
    return match
  common = set.intersection(*map(set, scans))
  for name, clips in zip(names, scans):
    alone = sorted(set(clips) - common)
    if alone and (common or match == "names"):
      others = "the other systems" if len(names) > 2 else "the other system"
      more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
      raise store.StudyError(
        f"{name}: {', '.join(alone[:3])}{more}: no clip of {others} has this "
        f"name ({len(common)} names are common to all). Rename or remove "
        "clips so that the names agree, or pair at random: --match random."
      )
  return "names" if common else "random"


def _pairs(scans, match, most, rng) -> list[tuple[tuple[int, str], ...]]:
  """All pairs ((system, name), (system, name)) that may be asked about."""
  keys = [sorted(clips) for clips in scans]
  if match == "names":
    drawn = [keys[0][i] for i in rng.permutation(len(keys[0]))[:most]]
    keys = [drawn] * len(keys)
  else:
    keys = [[k[i] for i in rng.permutation(len(k))[:most]] for k in keys]
  pairs = []
  for i in range(len(scans)):
    for j in range(i + 1, len(scans)):
      second = keys[j]
      if match == "random":
        second = [second[n] for n in rng.permutation(len(second))]
      pairs += [((i, a), (j, b)) for a, b in zip(keys[i], second)]
  return pairs


# ------------------------------------------------------- what is common


def _measure(path: pathlib.Path, options: Options) -> _Clip:
  """Decodes a clip, since headers are often wrong; flat in memory."""
  times = []
  try:
    for frame in read.frames(path, square_pixels=True):
      times.append(frame.time)
      if options.seconds and frame.time > options.seconds:
        break
  except read.VideoError as error:
    raise store.StudyError(f"{error}: fix the clip or take it away.") from None
  if len(times) < 2:
    raise store.StudyError(
      f"{path}: has a single frame, and a still picture is not a clip: take it "
      "away."
    )
  fps = round((len(times) - 1) / times[-1], 3)
  height, width, _ = frame.image.shape
  seconds = times[-1] + 1 / fps
  return _Clip(path=path, height=height, width=width, fps=fps, seconds=seconds)


def _common(names, clips, options) -> dict[str, float]:
  """The height, width, rate and length that all clips will have."""
  shorter = {c: min(clip.height, clip.width) for c, clip in clips.items()}
  small = min(shorter, key=shorter.get)
  size = options.size or shorter[small]
  if size > shorter[small]:
    raise store.StudyError(
      f"--size {size}: {clips[small].path} has only {shorter[small]} pixels, "
      "and enlarging would add blur to it alone: give a smaller size."
    )
  if options.square:
    height = width = size
  else:
    shapes = {
      c: read.fit(clip.height, clip.width, size) for c, clip in clips.items()
    }
    low = min(shapes, key=lambda c: shapes[c][1] / shapes[c][0])
    high = max(shapes, key=lambda c: shapes[c][1] / shapes[c][0])
    sides = np.array(list(shapes.values()))
    # Rounding leaves a pixel; more is another shape.
    if np.ptp(sides, 0).max() > 2:
      a, b = clips[low], clips[high]
      raise store.StudyError(
        f"clips of different shapes cannot be compared fairly: {a.path} is "
        f"{a.width}x{a.height}, {b.path} is {b.width}x{b.height}. Cut them "
        "first, or let --square cut the middle square out of all."
      )
    height, width = map(int, sides.min(0))

  fps = options.fps
  if fps is None:
    fps = min(
      statistics.median(c.fps for (s, _), c in clips.items() if s == i)
      for i in range(len(names))
    )
  short = min(clips.values(), key=lambda c: c.seconds)
  seconds = options.seconds or short.seconds
  if seconds > short.seconds + 0.5 / fps:
    raise store.StudyError(
      f"--seconds {seconds:g}: {short.path} lasts {short.seconds:.2f} s: ask "
      "for less, or take the clip away."
    )
  frames = math.floor(seconds * fps + 0.01)
  if frames < 2:
    raise store.StudyError(
      f"clips of {seconds:.2f} s at {fps:g} frames a second have no motion "
      f"left ({short.path} is the shortest): take it away, or give --fps."
    )
  scale = max(1, -(-_SHOWN // min(height, width)))
  return {
    "height": height,
    "width": width,
    "scale": scale,
    "fps": fps,
    "frames": frames,
    "seconds": round(frames / fps, 4),
  }


def _changes(names, clips, video) -> Iterator[str]:
  """What happens to the clips of each system, a line each."""
  for i, name in enumerate(names):
    own = [clip for (system, _), clip in clips.items() if system == i]
    span = lambda values: " to ".join(
      f"{v:g}" for v in sorted({round(min(values), 2), round(max(values), 2)})
    )
    sizes = sorted({(c.width, c.height) for c in own})
    shown = ", ".join(f"{w}x{h}" for w, h in sizes[:3])
    yield (
      f"{name}: {len(own)} clips, {shown}{' ...' if len(sizes) > 3 else ''}, "
      f"{span([c.fps for c in own])} frames/s, "
      f"{span([c.seconds for c in own])} s -> {video['width']}x"
      f"{video['height']}, {video['fps']:g} frames/s, {video['seconds']:g} s"
    )


def _uneven(names, clips, video) -> list[str]:
  """Systems whose frames are not each n-th, or n times each, of what is shown.

  29.97 for 30 in a short clip adds up to less than half a frame: that is even.
  """
  uneven = []
  for (system, _), clip in clips.items():
    slow, fast = sorted((clip.fps, video["fps"]))
    # Frames that the ratio of rates is off a whole number by, over the clip.
    off = abs(fast / slow - round(fast / slow))
    if off * slow * video["seconds"] > 0.5:
      uneven.append(f"{names[system]} ({clip.fps:g})")
  return list(dict.fromkeys(uneven))


# ------------------------------------------------------------- new files


def _write(
  folder: pathlib.Path,
  names: Mapping[tuple[int, str], str],
  clips: Mapping[tuple[int, str], _Clip],
  video: Mapping[str, float],
  options: Options,
  rng: np.random.Generator,
) -> tuple[dict[str, dict], list[list[str]]]:
  """Writes all clips anew, and those of the checks.

  Args:
    folder: gets the files; does not exist yet.
    names: (system, name of the clip) -> file.
    clips: what is known of each.
    video: what they will have in common, from `_common`.
    options: of the study.
    rng: draws the clips of the checks.

  Returns:
    File -> its system, the clip's name, its bytes; and the two files of each
    check, the better one first.
  """
  folder.mkdir(parents=True)
  entries = {}

  def add(name, clip, ruin=False):
    _encode(folder / name, clips[clip], video, ruin)
    size = (folder / name).stat().st_size
    entries[name] = {
      "system": clip[0],
      "name": clip[1],
      "bytes": size,
      "sha256": files.digest(folder / name),
    }

  order = [list(names)[i] for i in rng.permutation(len(names))]
  for clip, name in names.items():
    add(name, clip)
  checks = []
  for i in range(options.checks):
    clip = order[i % len(order)]
    other = names[clip]
    if options.check == "degraded":
      other = f"{rng.bytes(8).hex()}.mp4"
      add(other, clip, ruin=True)
    checks.append([names[clip], other])
  return entries, checks


def _encode(
  target: pathlib.Path,
  clip: _Clip,
  video: Mapping[str, float],
  ruin: bool,
) -> None:
  """Writes a clip as all are written."""
  size = min(video["height"], video["width"])
  first = None
  try:
    with write.Writer(
      target, video["fps"], crf=_CRF, scale=video["scale"]
    ) as out:
      frames = read.frames(clip.path, size=size, square_pixels=True)
      for image in resample(frames, video["fps"], video["frames"]):
        image = _middle(image, video["height"], video["width"])
        if ruin:
          first = _coarse(image) if first is None else first
          image = first
        out.append(image)
  except read.VideoError as error:
    raise store.StudyError(str(error)) from None


def resample(
  frames: Iterator[read.Frame], fps: float, count: int
) -> Iterator[np.ndarray]:
  """`count` pictures, 1/fps seconds apart: each the nearest frame in time."""
  last, done = None, 0
  for frame in frames:
    while last and done < count and done / fps < (last.time + frame.time) / 2:
      yield last.image
      done += 1
    last = frame
    if done == count:
      return
  for _ in range(done, count):
    yield last.image


def _middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """(H, W, 3) -> its middle (height, width, 3)."""
  y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
  return image[y : y + height, x : x + width]


def _coarse(image: np.ndarray) -> np.ndarray:
  """The picture in large blocks with half the contrast: plainly worse."""
  side = max(1, min(image.shape[:2]) // _CHECK_BLOCKS)
  y = np.arange(image.shape[0]) // side * side
  x = np.arange(image.shape[1]) // side * side
  blocks = image[y][:, x].astype(int)
  return (blocks // 2 + 64).astype(np.uint8)
