#!/usr/bin/env bash
# Runs a verb as N processes that work as one: a cluster on one machine.
#
#   bash launch/processes.sh N VERB ARGUMENTS...
#   bash launch/processes.sh 2 train --config configs/smoke.py:model=mlp \
#     --workdir runs/two
#
# On CPUs, each process with virtual devices of its own: the way to try, without
# a cluster, what a cluster will do. When one process dies the others are
# stopped. Ctrl-C saves a checkpoint; a second one kills.
#
#   VIDGAN_DEVICES   devices of each process (default: 4); `gpu` gives process
#                    k the GPU k of this machine instead (not run here; one
#                    process can drive all GPUs, see one_machine.sh)
#   VIDGAN_PORT      port of process 0 on 127.0.0.1 (default: a free one)
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ] || ! [ "$1" -ge 1 ] 2>/dev/null; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
count="$1"
shift
. launch/env.sh

devices="${VIDGAN_DEVICES:-4}"
port="${VIDGAN_PORT:-$(python -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')}"
export JAX_COORDINATOR_ADDRESS="127.0.0.1:$port" JAX_NUM_PROCESSES="$count"
if [ "$devices" != gpu ]; then
  export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$devices"
fi

pids=()
stop() { kill -"$1" "${pids[@]}" 2>/dev/null || true; }
signals=0
trap 'signals=$((signals + 1)); [ $signals = 1 ] && stop TERM || stop KILL' \
  INT TERM
for ((k = 0; k < count; k++)); do
  if [ "$devices" = gpu ]; then export JAX_LOCAL_DEVICE_IDS="$k"; fi
  # Process 0 speaks; what the others say is marked.
  if [ "$k" = 0 ]; then
    JAX_PROCESS_ID="$k" python -m vidgan_jax "$@" &
  else
    JAX_PROCESS_ID="$k" python -m vidgan_jax "$@" \
      > >(sed -u "s/^/[$k] /") 2>&1 &
  fi
  pids+=($!)
done

# The first failure ends them all: the others would wait for it in vain.
status=0
failed=""
while [ "${#pids[@]}" -gt 0 ]; do
  sleep 0.5 || true
  left=()
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      left+=("$pid")
      continue
    fi
    code=0
    wait "$pid" || code=$?
    if [ "$code" != 0 ] && [ "$status" = 0 ]; then
      status="$code"
      failed="$SECONDS"
    fi
  done
  pids=("${left[@]}")
  if [ -n "$failed" ] && [ "${#pids[@]}" -gt 0 ]; then
    # A while to come to an end together.
    if [ $((SECONDS - failed)) -ge 60 ]; then
      stop KILL
    elif [ $((SECONDS - failed)) -ge 10 ]; then
      stop TERM
    fi
  fi
done
exit "$status"
