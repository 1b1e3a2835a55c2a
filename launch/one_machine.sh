#!/usr/bin/env bash
# Trains on this machine, on every GPU or TPU chip it has, else on its CPU.
#
#   bash launch/one_machine.sh CONFIG WORKDIR [--config.FIELD=VALUE ...]
#   bash launch/one_machine.sh configs/video_folder.py:data=data/mine runs/mine
#
# One process drives all devices; config.batch is shared out among them. A run
# that is killed (out of memory, a driver that gives up) is started again and
# goes on from its last checkpoint. An error that it tells of, and Ctrl-C, end
# it. Run on a CPU; not run here on several GPUs or on a TPU.
#
#   VIDGAN_RETRIES   how often to start again (default: 3)
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config="$1" workdir="$2"
shift 2
. launch/env.sh

code=0
for ((attempt = 0; attempt <= ${VIDGAN_RETRIES:-3}; attempt++)); do
  code=0
  vidgan train --config "$config" --workdir "$workdir" "$@" || code=$?
  # Above 128 a signal ended it; 130 is Ctrl-C.
  if [ "$code" -lt 128 ] || [ "$code" = 130 ]; then
    exit "$code"
  fi
  echo "The run was killed (exit status $code)." >&2
  sleep 5
done
exit "$code"
