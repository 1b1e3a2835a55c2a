# Sourced by the other scripts: makes .venv once, installs, activates it.
#
#   VIDGAN_EXTRAS   extras of setup.py to install (default: tf, and cuda or tpu
#                   where there is such a device)
#   VIDGAN_VENV     where the environment lies (default: .venv)
#   VIDGAN_PYTHON   the Python to make it with (default: the first of
#                   python3.12, python3.11, python3.13, python3 that fits)

_accelerator() {
  if nvidia-smi -L >/dev/null 2>&1; then
    echo ",cuda"
  elif [ -e /dev/accel0 ] || [ -e /dev/vfio/0 ]; then
    echo ",tpu"
  fi
}

_venv="${VIDGAN_VENV:-.venv}"
_extras="${VIDGAN_EXTRAS:-tf$(_accelerator)}"

_fits() {
  "$1" -c 'import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# What pip does, on one line that changes; without a terminal, what it downloads.
_progress() {
  local line
  while IFS= read -r line; do
    case "$line" in
      Collecting* | *Downloading* | Installing* | Successfully*)
        line="${line#"${line%%[! ]*}"}"
        if [ -t 1 ]; then
          printf '\r\033[K  %.76s' "$line"
        elif [[ "$line" == Downloading* || "$line" == Installing* ]]; then
          printf '  %.76s\n' "$line"
        fi ;;
    esac
  done
  if [ -t 1 ]; then printf '\r\033[K'; fi
}

# A mark in the environment says that it is whole, where it lies (its scripts hold
# the path), which setup.py asked for it and which extras it has.
_here="$(pwd)/$_venv"
case "$_venv" in /*) _here="$_venv" ;; esac
_setup="$(cksum < setup.py)"
_mark="$_venv/installed"
_have=""
if [ "$(sed -n 1p "$_mark" 2>/dev/null)" = "$_here" ] &&
  "$_venv/bin/python" -c "" 2>/dev/null; then
  if [ "$(sed -n 2p "$_mark")" = "$_setup" ]; then
    _have="$(tail -n +3 "$_mark")"
  fi
else
  _python=""
  for _p in ${VIDGAN_PYTHON:-python3.12 python3.11 python3.13 python3}; do
    if _fits "$_p"; then _python="$_p"; break; fi
  done
  if [ -z "$_python" ]; then
    echo "No Python 3.11, 3.12 or 3.13 with its venv module was found on the" \
      "PATH. Install one (on Debian and Ubuntu: apt-get install python3" \
      "python3-venv; without root: conda or uv), or name it in VIDGAN_PYTHON." >&2
    exit 1
  fi
  echo "Making $_venv with $("$_python" --version) ..."
  # In place: its scripts would point to a folder that is gone if it were moved.
  # What a run that was stopped has left is cleared.
  "$_python" -m venv --clear "$_venv"
fi

for _extra in ${_extras//,/ }; do
  if ! grep -qx "$_extra" <<< "$_have"; then
    echo "Installing vidgan_jax[$_extras] into $_venv: one to five minutes," \
      "mostly for TensorFlow and JAX ..."
    "$_venv/bin/python" -m pip install --disable-pip-version-check \
      --progress-bar off -e ".[$_extras]" | _progress
    [ "${PIPESTATUS[0]}" = 0 ] || exit 1
    printf '%s\n' "$_here" "$_setup" $_have ${_extras//,/ } > "$_mark"
    break
  fi
done
PATH="$(cd "$_venv/bin" && pwd):$PATH"
export PATH
unset _venv _extras _extra _setup _have _p _python _here _mark
unset -f _fits _accelerator _progress
