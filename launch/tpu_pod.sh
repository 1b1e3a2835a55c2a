#!/usr/bin/env bash
# Trains on a Cloud TPU slice of any number of hosts, until it is done. Not run
# here: no TPU at hand.
#
#   bash launch/tpu_pod.sh CONFIG WORKDIR [--config.FIELD=VALUE ...]
#
# Run it in a clone of the repository, on any machine with the `gcloud` command.
# It makes the slice (as a queued resource, if there is none of that name), puts
# this repository on all hosts, installs, and starts the same command on each of
# them; JAX finds the others by itself. When the slice is taken away or a host
# fails, it begins again, and the run goes on from its last checkpoint.
#
#   TPU_NAME      name of the slice; required
#   TPU_ZONE      as in us-central2-b; required
#   TPU_TYPE      as in v5litepod-16 (default)
#   TPU_VERSION   image (default: v2-alpha-tpuv5-lite, of TPU_TYPE's family)
#   TPU_SPOT      1: cheaper, may be taken away at any time (default: 0)
#   TPU_NFS       HOST:/SHARE of an NFS server (Filestore), mounted on all hosts
#                 as TPU_MOUNT; required when there is more than one host
#   TPU_MOUNT     where (default: /mnt/vidgan)
#   TPU_RETRIES   how often to begin again (default: 100)
#
# WORKDIR and the data set must be paths below TPU_MOUNT: every host writes its
# part of a checkpoint there. Addresses such as gs://... are not understood. The
# slice is left running, and is paid for until you delete it:
#
#   gcloud compute tpus queued-resources delete NAME --zone ZONE --force
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ] || [ -z "${TPU_NAME:-}" ] || [ -z "${TPU_ZONE:-}" ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config="$1" workdir="$2"
shift 2
type="${TPU_TYPE:-v5litepod-16}"
version="${TPU_VERSION:-v2-alpha-tpuv5-lite}"
mount="${TPU_MOUNT:-/mnt/vidgan}"

tpu() { gcloud compute tpus "$@" --zone "$TPU_ZONE" --quiet; }
# Runs a command on all hosts; fails when one of them fails.
everywhere() { tpu tpu-vm ssh "$TPU_NAME" --worker=all --command "$1"; }

state() {
  tpu queued-resources describe "$TPU_NAME" --format='value(state.state)' \
    2>/dev/null || true
}

# Makes the slice if it is not there, and waits until it is.
acquire() {
  local spot="" now
  if [ "${TPU_SPOT:-0}" = 1 ]; then spot=1; fi
  while true; do
    now="$(state)"
    case "$now" in
      ACTIVE) return ;;
      "")
        tpu queued-resources create "$TPU_NAME" --node-id "$TPU_NAME" \
          --accelerator-type "$type" --runtime-version "$version" \
          ${spot:+--spot} || true
        ;;
      SUSPENDED | FAILED)
        tpu queued-resources delete "$TPU_NAME" --force || true
        ;;
      *) echo "$TPU_NAME: $now" ;;
    esac
    sleep 30
  done
}

# The tracked files, a disk that all hosts see, a Python, the package.
prepare_hosts() {
  local archive
  archive="$(mktemp -d)/vidgan.tar.gz"
  git archive --format=tar.gz -o "$archive" HEAD
  tpu tpu-vm scp "$archive" "$TPU_NAME:vidgan.tar.gz" --worker=all || return
  if [ -n "${TPU_NFS:-}" ]; then
    everywhere "mountpoint -q '$mount' || {
      sudo apt-get -qq update && sudo apt-get -qq install -y nfs-common &&
      sudo mkdir -p '$mount' && sudo mount '$TPU_NFS' '$mount' &&
      sudo chmod a+rwx '$mount'; }" || return
  fi
  # The image's own Python may be older than 3.11: uv brings one, without root.
  everywhere 'set -e
    mkdir -p vidgan && tar -xzf vidgan.tar.gz -C vidgan && cd vidgan
    if ! python3 -c "
import sys, ensurepip
sys.exit(sys.version_info < (3, 11))"
    then
      python3 -m pip install --quiet --user uv
      python3 -m uv python install --quiet 3.12
      VIDGAN_PYTHON="$(python3 -m uv python find 3.12)"
      export VIDGAN_PYTHON
    fi
    VIDGAN_EXTRAS=tf,tpu bash launch/env.sh'
}

# The same command on all hosts. What an earlier try left running there is
# stopped first: it would hold the chips.
command="$(printf '%q ' vidgan train --config "$config" --workdir "$workdir" \
  "$@")"
train() {
  everywhere "cd vidgan
    if kill \$(cat ~/vidgan.pid) 2>/dev/null; then sleep 60; fi
    echo \$\$ > ~/vidgan.pid
    export VIDGAN_EXTRAS=tf,tpu JAX_COMPILATION_CACHE_DIR=~/xla
    . launch/env.sh && exec $command"
}

quick=0 # tries in a row that ended within five minutes
for ((attempt = 0; attempt <= ${TPU_RETRIES:-100}; attempt++)); do
  acquire
  began="$SECONDS"
  if prepare_hosts && train; then exit 0; fi
  quick=$((SECONDS - began < 300 ? quick + 1 : 0))
  if [ "$quick" = 3 ]; then
    echo "Three tries ended within minutes: see the messages above." >&2
    exit 1
  fi
  echo "Try $attempt on $TPU_NAME has ended; the next begins in a minute." >&2
  sleep 60
done
echo "Given up after $attempt tries." >&2
exit 1
