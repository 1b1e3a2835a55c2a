#!/usr/bin/env bash
# Runs the whole test suite; arguments go to pytest, as in
#
#   bash launch/test.sh -m 'not slow' tests/train/test_step.py
#
# VIDGAN_EXTRAS=tf,test,parity adds PyTorch 2.13 and transformers (Python 3.11), which
# tests of the networks for metrics and texts compare with; without them they skip, as
# do those of the page of `vidgan study` where there is no Chromium. Tests on real
# video need VIDGAN_REAL_DATA, a folder; without it they skip.
set -euo pipefail
cd "$(dirname "$0")/.."
VIDGAN_EXTRAS="${VIDGAN_EXTRAS:-tf,test}" . launch/env.sh

ruff check .
exec python -m pytest -q --durations=15 \
  -n auto --maxprocesses 2 --dist loadfile "$@"
