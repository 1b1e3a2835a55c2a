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

if [ ! -x "$_venv/bin/python" ]; then
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
  "$_python" -m venv "$_venv.new"
  rm -rf "$_venv"
  mv "$_venv.new" "$_venv"
fi

# Installed already? The mark holds the extras, and the setup.py that asked.
_setup="$(cksum < setup.py)"
_have=""
if [ "$(head -n 1 "$_venv/installed" 2>/dev/null)" = "$_setup" ]; then
  _have="$(tail -n +2 "$_venv/installed")"
fi
for _extra in ${_extras//,/ }; do
  if ! grep -qx "$_extra" <<< "$_have"; then
    echo "Installing vidgan_jax[$_extras] into $_venv (about a minute) ..."
    "$_venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      -e ".[$_extras]"
    printf '%s\n' "$_setup" $_have ${_extras//,/ } > "$_venv/installed"
    break
  fi
done
PATH="$(cd "$_venv/bin" && pwd):$PATH"
export PATH
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
unset _venv _extras _extra _setup _have _p _python
unset -f _fits _accelerator
