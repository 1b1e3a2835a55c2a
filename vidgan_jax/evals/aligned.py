"""Aligned videos in files: every paired metric, one pair at a time.

Files are matched by their names without suffix, frames by their number: a video
of which a frame does not decode is refused. Pixels are compared as they are
stored, square or not. A figure is the mean over the pairs, with its 95 %
bootstrap interval; the figures of each pair are kept.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import pathlib
import tempfile

import numpy as np

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import rooms
from vidgan_jax.evals import files
from vidgan_jax.evals import paired
from vidgan_jax.measures import intervals
from vidgan_jax.video import clips as clips_lib
from vidgan_jax.video import folder as folder_lib
from vidgan_jax.video import read as read_lib

_FPS = 25.0  # of images, which have no rate of their own
_APART = 1.05  # ratio of frame rates that are no longer one
_SHOWN = 24  # frames of a video in a report


def run(
  out: str | os.PathLike,
  reference: str | os.PathLike,
  metrics: Sequence[str] = (),
  frames: slice = slice(None),
) -> tuple[dict[str, evals.Value], dict[str, dict[str, float]]]:
  """Measures videos against their references.

  Args:
    out: a video, a folder of videos, of images in folders, or film strips, or
      an array (N, T, H, W, 3) in .npy or .npz.
    reference: likewise, of the same names, an array in the same order.
    metrics: some of `paired.METRICS`; all if empty.
    frames: those of each video that are compared.

  Returns:
    Name -> figure, and pair -> name -> number.

  Raises:
    ValueError: videos without a partner, of other sizes or lengths, or of which
      a frame does not decode.
  """
  for name in metrics:
    kinds = [known for known in paired.METRICS if known.startswith(f"{name}_")]
    if kinds and name not in paired.METRICS:
      raise errors.UserError(
        f"--metrics is {name!r}, of which there are several: "
        f"{', '.join(kinds)}. docs/metrics.md says what each is."
      )
    rooms.check_name(name, paired.METRICS, "--metrics")
  metrics = list(metrics) or list(paired.METRICS)
  pairs = matched(out, reference, frames)
  wanted = frames.stop and len(range(frames.stop)[frames])
  how, reasons = _protocols(metrics)
  rows: dict[str, dict[str, float]] = {}
  rates, others = [], []
  for name, (read, read_target) in pairs.items():
    (fake, rate), (target, fps) = read(), read_target()
    if fake.shape != target.shape:
      raise errors.UserError(
        f"{name} has (T, H, W) = {fake.shape[:3]}, its reference "
        f"{target.shape[:3]}: paired metrics need the same frames and size."
      )
    if wanted and len(fake) < wanted:
      raise errors.UserError(
        f"{name} has {len(fake)} of the {wanted} frames that are asked for: "
        f"--frames {len(fake)} would do."
      )
    if rate and fps and not 1 / _APART < rate / fps < _APART:
      others.append(f"{name} ({rate:g} and {fps:g})")
    rates += [fps] if fps else []
    rows[name] = {}
    for metric in metrics:
      if metric in reasons:
        continue
      try:
        number = paired.METRICS[metric].measure(fake, target, fps or _FPS)
        rows[name][metric] = float(number)
      except (ValueError, RuntimeError) as error:  # The latter of ffmpeg.
        reasons[metric] = _reason(error, f"{name}: ")
  note = ""
  if others:
    note = (
      f"{len(others)} of {len(rows)} videos have another frame rate than their "
      f"reference, as {others[0]} frames a second"
    )
  common = evals.Measurement(
    protocol={
      "generated": {"files": str(out)},
      "real": {"files": str(reference)},
      "estimator": "mean over the videos, as decoded, RGB 8 bits",
      "num": len(pairs),
      **({"frames": wanted, "stride": frames.step} if wanted else {}),
      "fps": [min(rates), max(rates)] if rates else None,
    },
    note=note,
  )
  values = {}
  for metric in metrics:
    facts = {"metric": metric, **how.get(metric, {})}
    if metric in reasons:
      protocol = {**common.protocol, **facts}
      values[metric] = evals.missing(reasons[metric], protocol)
    else:
      values[metric] = _mean(metric, rows, common, facts)
  return values, rows


def _protocols(metrics: Sequence[str]) -> tuple[dict, dict]:
  """Metric -> its part of the protocol, or the reason why it has none."""
  how, reasons = {}, {}
  for metric in metrics:
    try:
      how[metric] = paired.METRICS[metric].how()
    except ValueError as error:
      reasons[metric] = _reason(error)
  return how, reasons


def extremes(
  out: str | os.PathLike,
  reference: str | os.PathLike,
  rows: Mapping[str, Mapping[str, float]],
  frames: slice = slice(None),
) -> dict[str, evals.Exhibit]:
  """The best and the worst video by the first metric that all have.

  Args:
    out: as in `run`.
    reference: as in `run`.
    rows: what `run` gave for each pair, its metrics in the order asked for.
    frames: as in `run`.

  Returns:
    Title -> some frames of it; nothing where there is no such metric.
  """
  pairs = matched(out, reference, frames)
  metric = next(
    (
      name
      for name in next(iter(rows.values()))
      if all(np.isfinite(row.get(name, np.nan)) for row in rows.values())
    ),
    None,
  )
  if metric is None:
    return {}
  sign = -1 if paired.METRICS[metric].better == "higher" else 1
  order = sorted(rows, key=lambda name: sign * rows[name][metric])
  chosen = {"Best": order[0], "Worst": order[-1]}
  if len(order) == 1:
    chosen = {"The only one": order[0]}
  exhibits = {}
  for place, name in chosen.items():
    (fake, _), (target, fps) = (read() for read in pairs[name])
    shown = min(_SHOWN, len(fake))
    few = np.linspace(0, len(fake) - 1, shown).astype(int)
    title = f"{place} by {metric}: {name}, {rows[name][metric]:.4g}"
    exhibits[title] = evals.Exhibit(
      clips=fake[few][None],
      beside=target[few][None],
      fps=(fps or _FPS) * shown / len(fake),
    )
  return exhibits


def _reason(error: Exception, where: str = "") -> str:
  text = str(error)
  ready = text.startswith("not computed")
  return text if ready else f"not computed: {where}{text}"


def _mean(metric, rows, common, facts) -> evals.Value:
  """The mean over the videos that have a value; says how many have none."""
  numbers = np.array([row[metric] for row in rows.values()])
  finite = np.isfinite(numbers)
  without = [name for name, has in zip(rows, finite) if not has]
  if not finite.any():
    return evals.missing(
      f"not computed: no video has a value of {metric}: it needs two frames, "
      "and for flow something that is seen in both",
      {**common.protocol, **facts},
    )
  note = ""
  if without:
    note = (
      f"{len(without)} of {len(numbers)} videos have no value and are left "
      f"out, as {without[0]}"
    )
  numbers = numbers[finite]
  return dataclasses.replace(common, num=len(numbers)).value(
    numbers.mean(),
    intervals.bootstrap(numbers, 1000, 0) if len(numbers) > 1 else None,
    paired.METRICS[metric].better,
    unit=paired.METRICS[metric].unit,
    note=note,
    reason="one video",
    **facts,
  )


Read = Callable[[], tuple[np.ndarray, float | None]]


def matched(
  out: str | os.PathLike,
  reference: str | os.PathLike,
  frames: slice = slice(None),
) -> dict[str, tuple[Read, Read]]:
  """Name -> what reads the two videos of that name: frames, and their rate.

  Raises:
    ValueError: a file has no partner.
  """
  out, reference = pathlib.Path(out), pathlib.Path(reference)
  for path in (out, reference):
    if not path.exists():
      raise errors.UserError(f"{path} does not exist.")
  if out.is_file() != reference.is_file():
    raise errors.UserError(
      f"{out} and {reference}: give two files or two folders."
    )
  arrays = [
    path.is_file() and path.suffix.lower() in files.ARRAYS
    for path in (out, reference)
  ]
  if all(arrays):
    return _clips(out, reference, frames)
  if any(arrays):
    raise errors.UserError(
      f"{out} and {reference}: give two arrays or two videos."
    )
  if out.is_file():
    single = lambda p: functools.partial(
      _read,
      p.parent,
      folder_lib.Source(file=p.name, path=p.name, bytes=0, modified=0),
      "videos",
      frames,
    )
    return {out.stem: (single(out), single(reference))}
  both = []
  for path in (out, reference):
    layout, sources = folder_lib.scan(path, "auto")
    # The name of a folder of images has no suffix, whatever its dots.
    stem = lambda f, whole=layout == "frames": (
      f if whole else os.path.splitext(f)[0]
    )
    named = {
      stem(s.file): functools.partial(_read, path, s, layout, frames)
      for s in sources
    }
    if len(named) != len(sources):
      raise errors.UserError(
        f"{path}: several files share a name without their suffixes: keep one."
      )
    both.append(named)
  ours, theirs = both
  if not ours or ours.keys() != theirs.keys():
    alone = sorted(ours.keys() ^ theirs.keys())
    raise errors.UserError(
      f"{out} has {len(ours)} videos, {reference} has {len(theirs)}, and "
      f"{len(alone)} of them have no partner of the same name"
      + (f", as {alone[0]!r}." if alone else ".")
    )
  return {name: (ours[name], theirs[name]) for name in sorted(ours)}


def _clips(out, reference, frames) -> dict[str, tuple[Read, Read]]:
  """Clips of two arrays, by their number."""
  ours, theirs = files.array(out), files.array(reference)
  if len(ours) != len(theirs):
    raise errors.UserError(
      f"{out} has {len(ours)} clips, {reference} has {len(theirs)}: clips of "
      "arrays are paired by their number, so give as many of both."
    )
  return {
    str(i): tuple(
      functools.partial(lambda x, i: (x[i][frames], None), x, i)
      for x in (ours, theirs)
    )
    for i in range(len(ours))
  }


def _read(root, source, layout, frames) -> tuple[np.ndarray, float | None]:
  """All frames, (T, H, W, 3) uint8, as stored, and how many make a second.

  They lie in a file without a name, which goes with the array: metrics look at
  a few frames at a time, and memory does not grow with the video.
  """
  path = os.path.join(root, source.path)
  try:
    with tempfile.TemporaryFile() as file:
      times, shape = _decode(file, root, source, layout, frames)
      video = np.memmap(file, np.uint8, "r", shape=(len(times), *shape))
  except OSError as error:
    if error.errno != errno.ENOSPC:
      raise
    raise errors.UserError(
      f"{path}: its decoded frames do not fit in {tempfile.gettempdir()}: make "
      "room, or set TMPDIR to a folder that has more."
    ) from error
  seconds = times[-1] - times[0]
  known = layout == "videos" and len(times) > 1
  fps = round((len(times) - 1) / seconds, 3) if known else None
  return video, fps


def _decode(
  file, root, source, layout, frames
) -> tuple[list[float], tuple[int, ...]]:
  """Writes the frames; their times, and the shape of one."""
  path, times, shape = os.path.join(root, source.path), [], ()
  if layout == "videos":
    tally = stream = read_lib.Reader(path)
  else:
    tally, options = clips_lib.Tally(), clips_lib.Options(layout=layout)
    stream = clips_lib.frames(root, source, options, tally)
  with contextlib.closing(stream):
    for image, time in itertools.islice(
      stream, frames.start, frames.stop, frames.step
    ):
      times.append(time)
      shape = image.shape
      file.write(np.ascontiguousarray(image).data)
  if tally.damaged:
    raise errors.UserError(
      f"{path}: {tally.damaged} of its frames cannot be decoded, so the others "
      "have lost their partners: repair the video, or take the pair out."
    )
  file.flush()
  return times, shape
