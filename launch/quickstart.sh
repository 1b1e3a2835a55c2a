#!/usr/bin/env bash
# Trains a small video GAN before your eyes: at most ten minutes on two cores.
#
#   bash launch/quickstart.sh [WORKDIR]
set -euo pipefail
cd "$(dirname "$0")/.."
workdir="${1:-runs/quickstart}"
. launch/env.sh

vidgan train --config configs/quickstart.py --workdir "$workdir"
vidgan evaluate "$workdir"
vidgan generate "$workdir" --num 16 --out "$workdir/samples/quickstart.mp4"
vidgan generate "$workdir" --num 8 --strip \
  --out "$workdir/samples/quickstart.png"

cat <<END

Done. Look at
  the video       $workdir/samples/quickstart.mp4
  the film strip  $workdir/samples/quickstart.png
  the numbers     $workdir/eval/
Next: your own videos.
  . .venv/bin/activate
  vidgan prepare FOLDER_OF_VIDEOS data/mine --size 64
  vidgan train --config configs/video_folder.py:data=data/mine --workdir runs/mine
END
