"""Few videos and photographs -> many short clips to train on.

  python benchmarks/open_clips.py FOLDER OUT
  vidgan prepare OUT data/clips --no-labels --no-shots --max-frames 48

Thirty videos at one size teach a network those thirty videos. Here each video
in FOLDER gives up to four pieces of 24 frames at each of three sizes (128, 208
and 320 lines, where it has a third more than that), and each photograph six
pieces of 20 frames, of a camera that pans, turns and zooms over it. Pieces are
stored without loss in OUT/train. Put what is held out, from other sources, into
OUT/test yourself, and add --test-match '^test/' to the second command.
"""

import pathlib
import sys

import av
import cv2
import numpy as np

SIZES = (128, 208, 320)  # lines
PIECES, FRAMES = 4, 24  # of a video
SHOTS, STEPS = 6, 20  # of a photograph
SIDE = 128  # pixels of a photograph's clip
PHOTOS = (".png", ".jpg", ".jpeg")


def main():
  folder, out = map(pathlib.Path, sys.argv[1:])
  out = out / "train"
  out.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  for path in sorted(p for p in folder.rglob("*") if p.is_file()):
    photo = path.suffix.lower() in PHOTOS
    pieces = camera(path, rng) if photo else cuts(path)
    for name, frames in pieces:
      write(out / f"{path.stem}_{name}.mkv", frames)
    print(path.name, flush=True)


def cuts(path: pathlib.Path):
  """Pieces of a video, spread over its first frames, at several sizes."""
  with av.open(str(path)) as file:
    file.streams.video[0].thread_type = "AUTO"
    frames = [f for f, _ in zip(file.decode(video=0), range(480))]
  count = min(PIECES, max(1, len(frames) // FRAMES))
  for start in np.linspace(0, max(0, len(frames) - FRAMES), count, dtype=int):
    part = frames[start : start + FRAMES]
    part = [f.to_ndarray(format="rgb24") for f in part]
    h, w = part[0].shape[:2]
    short = min(h, w)
    sizes = [s for s in SIZES if s <= 0.75 * short] or [short // 2 * 2]
    for size in sizes:
      shape = [round(x * size / short / 2) * 2 for x in (w, h)]
      yield (
        f"{start}_{size}",
        [cv2.resize(f, shape, interpolation=cv2.INTER_AREA) for f in part],
      )


def camera(path: pathlib.Path, rng: np.random.Generator):
  """A camera over a photograph: a window that moves, turns and zooms."""
  photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
  for shot in range(SHOTS):
    lines = (200, 320)[shot % 2]
    share = min(1.0, lines / min(photo.shape[:2]))
    small = cv2.resize(
      photo, None, fx=share, fy=share, interpolation=cv2.INTER_AREA
    )
    angle = rng.uniform(0, 360) * (shot >= SHOTS // 2)
    speed, turn = rng.uniform(-3, 3, 2), rng.uniform(-1, 1)
    zoom, grow = rng.uniform(0.85, 1.15), rng.uniform(-0.008, 0.008)
    frames = []
    for t in np.arange(STEPS) - STEPS // 2:
      a, z = np.deg2rad(angle + turn * t), zoom * np.exp(grow * t)
      turned = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) / z
      middle = np.array(small.shape[1::-1]) / 2 + speed * t
      corner = middle - turned @ np.full(2, SIDE / 2)
      frames.append(
        cv2.warpAffine(
          small,
          np.column_stack([turned, corner]),
          (SIDE, SIDE),
          flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
          borderMode=cv2.BORDER_REFLECT_101,
        )
      )
    yield str(shot), frames


def write(path: pathlib.Path, frames: list[np.ndarray]):
  """A film without loss, 25 frames a second."""
  with av.open(str(path), "w") as file:
    stream = file.add_stream("ffv1", rate=25, options={"slices": "4"})
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = "bgr0"
    for frame in frames:
      picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
      file.mux(stream.encode(picture))
    file.mux(stream.encode())


if __name__ == "__main__":
  main()
