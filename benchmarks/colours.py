"""How often `vidgan evaluate` takes real clips for BGR, and finds real BGR.

  python benchmarks/colours.py FOLDER

FOLDER is that of real video which the tests use (VIDGAN_REAL_DATA). Every film,
cut into windows of 16 frames, and every folder of films, one window of each, is
a set. Each two sets of at least 8 clips are compared in both directions, and
each set with itself: its first half with the second, 20 random parts with the
rest, and of Weizmann each choice of one to four of nine people with the others.
Within a set each pair is compared again with one part exchanged.
"""

import itertools
import pathlib
import sys

import numpy as np
from PIL import Image

from vidgan_jax import errors
from vidgan_jax.measures import colours
from vidgan_jax.video import read

LEAST = 8  # clips of a set, as `vidgan evaluate` asks for
FRAMES = 16  # of a window, of which every second is looked at
FILMS = {".avi", ".mkv", ".mov", ".mp4", ".mpg"}
# Folders whose films are sets by themselves as well.
LONG = "compression_pairs dynamic_textures inpainting scenes static_camera"
LONG = (*LONG.split(), "torchvision_assets")
FOLDERS = (*LONG, "asl_gestures", "grid_faces_av", "messy")
# Folders of numbered images, which make one film, and the frames of a window.
IMAGES = {
  "airballoons_frames": 4,
  "camvid_0016E5/images": 8,
  "inpainting/bmx-trees": 8,
  "radar_mch/20150515": 4,
}


def windows(frames, size: int) -> np.ndarray:
  """(windows, 8, 8, 8): shares of colours of each so many frames."""
  parts = [frames[i : i + size] for i in range(0, len(frames), size)]
  whole = [part for part in parts if len(part) == size] or parts[:1]
  return np.stack([colours.shares(np.stack(part[::2])) for part in whole])


def film(path: pathlib.Path) -> list[np.ndarray]:
  """Up to 1,500 frames of 64 lines; none where it cannot be read."""
  try:
    with read.Reader(path, size=64) as reader:
      return [f.image for f in itertools.islice(reader, 1500)]
  except (errors.UserError, OSError):
    return []


def image(path: pathlib.Path) -> np.ndarray:
  with Image.open(path) as picture:
    return np.asarray(picture.convert("RGB"))


def strips(folder: pathlib.Path, most: int = 200) -> np.ndarray:
  """(strips, 8, 8, 8) of film strips."""
  return np.stack(
    [colours.shares(image(path)) for path in sorted(folder.iterdir())[:most]]
  )


def sets(root: pathlib.Path) -> dict[str, np.ndarray]:
  """Name -> shares of colours (clips, 8, 8, 8)."""
  made = {}
  for folder in FOLDERS:
    firsts = []
    for path in sorted((root / folder).rglob("*")):
      if path.suffix.lower() in FILMS and (frames := film(path)):
        clips = windows(frames, FRAMES)
        firsts.append(clips[:1])
        if folder in LONG:
          made[f"{folder}/{path.name}"] = clips
    made[folder] = np.concatenate(firsts)
  for folder, size in IMAGES.items():
    paths = sorted((root / folder).iterdir())
    made[folder] = windows([image(path)[::4, ::4] for path in paths], size)
  for name, classes in (("weizmann", "0134"), ("shapes", "01")):
    for c in classes:
      made[f"{name}_mocogan/{c}"] = strips(root / f"{name}_mocogan" / c)
  sky = np.stack(film_tiles(root / "sky_timelapse_mdgan" / "real_video.mp4"))
  made["sky_timelapse_mdgan"] = np.stack([colours.shares(x) for x in sky])
  for camera in ("cam0", "cam1", "cam2"):
    folders = sorted((root / "bridge_robot" / "frames").glob(f"*/{camera}"))
    made[f"bridge_robot/{camera}"] = np.concatenate(
      [windows([image(p) for p in sorted(f.iterdir())], 10) for f in folders]
    )
  return made


def film_tiles(path: pathlib.Path) -> list[np.ndarray]:
  """The 48 clips of a film that shows them in 6 rows of 8."""
  with read.Reader(path) as reader:
    video = np.stack([f.image for f in reader])[:FRAMES:2]
  places = itertools.product(range(2, 782, 130), range(2, 1042, 130))
  return [video[:, y : y + 128, x : x + 128] for y, x in places]


def splits(clips: np.ndarray, rng: np.random.Generator):
  """Yields two parts of one set, both large enough."""
  half = len(clips) // 2
  orders = [(np.arange(len(clips)), half)]
  for _ in range(20):
    part = max(LEAST, int(len(clips) * rng.choice([0.1, 0.2, 0.3, 0.5])))
    orders.append((rng.permutation(len(clips)), part))
  for order, part in orders:
    if LEAST <= part <= len(clips) - LEAST:
      yield clips[order[:part]], clips[order[part:]]


def people(classes: list[np.ndarray]):
  """Yields clips of some of the people of Weizmann, and of the others."""
  clips = np.stack(classes)  # (4 classes, 9 people, 8, 8, 8)
  for count in range(1, 5):
    for chosen in itertools.combinations(range(9), count):
      others = [i for i in range(9) if i not in chosen]
      parts = [clips[:, part].reshape(-1, 8, 8, 8) for part in (chosen, others)]
      if min(map(len, parts)) >= LEAST:
        yield parts


def main():
  made = sets(pathlib.Path(sys.argv[1]))
  large = [clips for clips in made.values() if len(clips) >= LEAST]
  print(f"{len(made)} sets, {len(large)} of them of at least {LEAST} clips")
  rng = np.random.default_rng(0)
  pairs = {
    "two sets": [*itertools.combinations(large, 2)],
    "parts of one set": [p for clips in large for p in splits(clips, rng)],
    "people of Weizmann": [
      *people([x for name, x in made.items() if "weizmann" in name])
    ],
  }
  for kind, each in pairs.items():
    each = [tuple(part.mean(0) for part in pair) for pair in each]
    each += [pair[::-1] for pair in each]
    told = sum(colours.exchanged(a, b) for a, b in each)
    line = f"{kind}: {told} of {len(each)} taken for BGR"
    if kind != "two sets":
      told = sum(colours.exchanged(a.transpose(2, 1, 0), b) for a, b in each)
      line += f", {told / len(each):.0%} of exchanged ones found"
    print(line)


if __name__ == "__main__":
  main()
