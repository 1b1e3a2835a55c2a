#!/usr/bin/env bash
# Runs the whole test suite; arguments go to pytest, as in
#
#   bash launch/test.sh -m 'not slow' tests/test_step.py
#
# Tests on real video need VIDGAN_REAL_DATA, a folder; without it they skip.
set -euo pipefail
cd "$(dirname "$0")/.."
VIDGAN_EXTRAS="tf,test" . launch/env.sh

ruff check .
exec python -m pytest -q --durations=15 "$@"
