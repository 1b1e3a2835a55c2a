"""Shows what the quickstart made: a still, and three figures in words.

  python launch/look.py WORKDIR

In a terminal of true colours the still is drawn there, two pixels a character.
"""

import json
import math
import os
import pathlib
import sys

from PIL import Image

STRIPS = 8  # of the picture that the quickstart draws
SHOWN = 2  # of them, in the terminal


def words(values: dict) -> list[str]:
  """Three figures of `eval/STEP.json` in words."""
  num = round(values["oracle/generated_clips"])
  count = round(num * values["oracle/count_accuracy"])
  right = round(num * values["oracle/class_accuracy"])
  speed = float(values["oracle/speed_ratio"])  # JSON has "NaN" as a text.
  return [
    f"{count} of {num} clips show the right number of shapes and nothing else.",
    f"{right} of {num} clips show the shape that was asked for.",
    f"The shapes fly at {speed:.2f} times the speed of the real ones."
    if math.isfinite(speed)
    else "No shape was seen in flight: train for longer.",
  ]


def still(path: pathlib.Path) -> str:
  """The first strips of a picture, as half blocks in true colours."""
  image = Image.open(path).convert("RGB")
  image = image.crop((0, 0, image.width, SHOWN * image.height // STRIPS))
  width = min(os.get_terminal_size().columns, 96)
  height = max(2, round(width * image.height / image.width) // 2 * 2)
  image = image.resize((width, height), Image.Resampling.BOX)
  lines = []
  for y in range(0, height, 2):
    cells = (
      "\033[38;2;{};{};{}m\033[48;2;{};{};{}m▀".format(
        *image.getpixel((x, y)), *image.getpixel((x, y + 1))
      )
      for x in range(width)
    )
    lines.append("".join(cells) + "\033[0m")
  return "\n".join(lines)


def main():
  """Prints both."""
  workdir = pathlib.Path(sys.argv[1])
  newest = max((workdir / "eval").glob("*.json"), key=lambda p: int(p.stem))
  picture = workdir / "samples" / "quickstart.png"
  true_colours = os.environ.get("COLORTERM") in ("truecolor", "24bit")
  if true_colours and sys.stdout.isatty():
    print(still(picture))
  print(f"A still of the video: {picture}")
  print("\n".join(words(json.loads(newest.read_text()))))


if __name__ == "__main__":
  main()
