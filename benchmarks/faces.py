r"""Mouths and voices: S5, whether real ones move together, and S6, made ones.

  python benchmarks/faces.py FACES
  python benchmarks/faces.py FACES --data data/faces
  vidgan train --config configs/lips.py --workdir runs/lips
  python benchmarks/faces.py FACES --run runs/lips

FACES is a folder of films of one speaker each, the face in the middle, with
their sound: the eleven of the corpus GRID (Cooke et al. 2006) in the folder of
real video that the tests use, whose terms are for research. Nothing of them is
kept in the project.

1. S5, without an option: in a fixed box around the mouth the mean change from
   frame to frame, beside the loudness at that time, and beside its change; of
   the correlation at lags of up to 12 frames, where is its peak? All clips
   begin and end in silence, so the correlation at lag 0 is high with the sound
   of another clip as well (it is shown beside): only the lag tells that they
   belong together.
2. --data makes the data set of configs/lips.py: the faces cropped, `HELD` as
   the test split.
3. S6, --run: films of the held-out speakers through `vidgan process
   RUN:sound=...`, with their own sound and with that of every other clip. L1 in
   the lower half, of the one and the other; the gain is their difference, with
   a bootstrap over pairs of clip and other sound. And the lag of the made
   mouths. --strips FOLDER writes what was made.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile

import numpy as np

from vidgan_jax import cli
from vidgan_jax.data import sound as rows_lib
from vidgan_jax.measures import intervals
from vidgan_jax.measures import motion
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import sound
from vidgan_jax.video import stages
from vidgan_jax.video import write

MOUTH = (slice(180, 245), slice(140, 220))  # of 288 x 360 pixels
FACE = "crop:w=144,h=144,x=105,y=110"
HELD = ("brbk7n", "lbbc2a", "sbwe5n")  # no other clip shows these speakers
MOST = 12  # frames of lag
NEAR = 3
SIZE = 64


def main() -> None:
  """Prints the table that is asked for."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("faces", type=pathlib.Path)
  parser.add_argument("--data", type=pathlib.Path)
  parser.add_argument("--run")
  parser.add_argument("--strips", type=pathlib.Path)
  args = parser.parse_args()
  films = sorted(args.faces.glob("*.mpg"))
  if not films:
    sys.exit(f"{args.faces}: no films (*.mpg)")
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    if args.data:
      prepare(films, folder, args.data)
    elif args.run:
      made(films, folder, args.run, args.strips)
    else:
      real(films)


# ---------------------------------------------------------------------- S5


def real(films: list[pathlib.Path]) -> dict[str, tuple[int, float]]:
  """Table 1.

  Returns:
    Name of what is heard -> in how many films the peak lies within `NEAR`
    frames of 0, and the same with the sounds of the others, their mean.
  """
  energies = [energy(frames(film)[:, *MOUTH]) for film in films]
  table = {}
  for name in ("loudness", "its change"):
    heard = [loudness(film, len(x)) for film, x in zip(films, energies)]
    if name != "loudness":
      heard = [np.abs(np.gradient(x)) for x in heard]
    curves = np.array(
      [[motion.lag_curve(x, y, MOST) for y in heard] for x in energies]
    )
    near = np.abs(curves.argmax(-1) - MOST) <= NEAR
    own = np.eye(len(films), dtype=bool)
    table[name] = int(near[own].sum()), len(films) * float(near[~own].mean())
    lags = (curves[own].argmax(-1) - MOST).tolist()
    print(f"{name}: peaks at {lags} frames; within {NEAR}: {table[name][0]} of "
          f"{len(films)}, with the sounds of others {table[name][1]:.1f}; r at "
          f"lag 0 {curves[own][:, MOST].mean():.2f}, of others "
          f"{curves[~own][:, MOST].mean():.2f}")  # fmt: skip
  return table


def frames(film: pathlib.Path) -> np.ndarray:
  """(T, H, W, 3) float32."""
  return np.stack([f.image for f in read.frames(film)]).astype(np.float32)


def energy(clip: np.ndarray) -> np.ndarray:
  """Mean change of brightness from frame to frame, levels: (T - 1,)."""
  return np.abs(np.diff(clip.mean(-1), axis=0)).mean((1, 2))


def loudness(film: pathlib.Path, count: int, fps: float = 25.0) -> np.ndarray:
  """Mean level of the bands while the picture changes: (count,)."""
  wave = sound.decode(film, rows_lib.RATE)
  times = (np.arange(count) + 0.5) / fps
  rows = rows_lib.rows(wave, times, 1 / fps)
  parts = rows.reshape(count, rows_lib.PARTS, rows_lib.BANDS + 1)
  return parts[..., : rows_lib.BANDS].mean((1, 2))


# ---------------------------------------------------------------------- S6


def prepare(
  films: list[pathlib.Path], folder: pathlib.Path, out: pathlib.Path
) -> None:
  """Crops the faces and makes the data set."""
  for film in films:
    split = "test" if held(film) else "train"
    (folder / split).mkdir(exist_ok=True)
    face(film, folder / split / f"{film.stem}.mkv")
  flags = ["--no-labels", "--no-shots", "--sound", "--test-match", "^test/"]
  cli.main(["prepare", str(folder), str(out), "--size", str(SIZE), *flags])


def held(film: pathlib.Path) -> bool:
  return film.stem.split("_")[-1] in HELD


def face(film: pathlib.Path, out: pathlib.Path) -> None:
  """The face alone, `SIZE` pixels, without loss, with its sound."""
  options = plan.Options(height=SIZE, codec="ffv1")
  job.process(stages.chain(FACE, None), str(film), str(out), options)


def made(
  films: list[pathlib.Path],
  folder: pathlib.Path,
  run: str,
  strips: pathlib.Path | None,
) -> None:
  """Table 3."""
  from vidgan_jax import footage

  stage, options = footage.load(run, {}), plan.Options(codec="ffv1")
  gains, lags, stills = [], [], []
  for film in filter(held, films):
    crop = folder / f"{film.stem}.mkv"
    face(film, crop)
    true = frames(crop)
    errors, clips = {}, {}
    for voice in films:
      out = folder / f"{film.stem}_{voice.stem}.mkv"
      hears = dataclasses.replace(stage, options={"sound": str(voice)})
      job.process([hears], str(crop), str(out), options)
      clips[voice] = frames(out)
      errors[voice] = mouth(clips[voice] - true)
    own = errors.pop(film)
    still = mouth(true - true[:1])
    gains += [(error - own) / own for error in errors.values()]
    moved = energy(clips[film][:, SIZE // 2 :])
    heard = np.abs(np.gradient(loudness(film, len(moved))))
    lags.append(int(motion.lag_curve(moved, heard, MOST).argmax()) - MOST)
    stills.append(1 - own / still)
    print(f"{film.stem}: L1 of the lower half, levels: own sound {own:.3f}, "
          f"others {np.mean(list(errors.values())):.3f}, still {still:.3f}; "
          f"peak at {lags[-1]} frames")  # fmt: skip
    if strips:
      strips.mkdir(parents=True, exist_ok=True)
      other = next(iter(errors))
      rows = [true, clips[film], clips[other]]
      grid = np.concatenate([write.strip(x[20:60:4]) for x in rows])
      write.write(strips / f"{film.stem}.png", grid[None].astype(np.uint8))
  low, high = intervals.bootstrap(np.array(gains), 1000, 0)
  print(
        f"right sound below another's by {100 * np.mean(gains):.2f} % "
        f"[{100 * low:.2f}, {100 * high:.2f}] of {len(gains)} pairs; below the"
        f" still mouth by {100 * np.mean(stills):.1f} %; lags {lags}",
  )  # fmt: skip


def mouth(change: np.ndarray) -> float:
  """Mean absolute change in the lower half."""
  return float(np.abs(change[:, SIZE // 2 :]).mean())


if __name__ == "__main__":
  main()
