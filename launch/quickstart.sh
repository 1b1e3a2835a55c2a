#!/usr/bin/env bash
# Trains a small video GAN before your eyes: at most ten minutes on two cores.
#
#   bash launch/quickstart.sh [WORKDIR]
set -euo pipefail
cd "$(dirname "$0")/.."
workdir="${1:-runs/quickstart}"
stage() { printf '\n[%s of 5] %s\n' "$1" "$2"; }

stage 1 "The environment: one to five minutes, once"
. launch/env.sh

stage 2 "Training on clips of flying shapes: four to seven minutes"
vidgan train --config configs/quickstart.py --workdir "$workdir"

stage 3 "Measuring the trained generator: half a minute"
vidgan evaluate "$workdir"

stage 4 "Drawing new clips: half a minute"
vidgan generate "$workdir" --overwrite --num 16 --out "$workdir/samples/quickstart.mp4"
vidgan generate "$workdir" --overwrite --num 8 --strip \
  --out "$workdir/samples/quickstart.png"

stage 5 "What came of it"
python launch/look.py "$workdir"

cat <<END

Look at
  the video       $workdir/samples/quickstart.mp4
  the film strip  $workdir/samples/quickstart.png
  the numbers     $workdir/eval/
Next: your own videos.
  . .venv/bin/activate
  vidgan prepare FOLDER_OF_VIDEOS data/mine --size 64
  vidgan train --config configs/video_folder.py:data=data/mine --workdir runs/mine
END
