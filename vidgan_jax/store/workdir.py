"""The folder of a run: which run it is of, and where things lie in it.

  WORKDIR/config.json          the config of the run
  WORKDIR/checkpoints/STEP/    see `store.checkpoint`
  WORKDIR/eval/STEP.json       values of `evals.harness`; eval/report.html
  WORKDIR/samples/             clips to look at
  WORKDIR/metrics.jsonl        numbers of the steps; log.txt and TensorBoard
  WORKDIR/lock                 locked by the process that trains

A path that a user gives may be that of the workdir, of its `checkpoints` or of
one `checkpoints/STEP`.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
from typing import Any

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax.store import files

_Path = str | os.PathLike[str]

# What may change when a run goes on; anything else would make it another run.
MAY_CHANGE = (
  "total",
  "cadence",
  "evals",
  "nan_limit",
  "parallel",
  "mesh",
  "batch_axes",
  "sharding",
)


class WorkdirError(errors.UserError, RuntimeError):
  """A run or checkpoint that does not exist, or is another one."""


# -------------------------------------------------------------------- places


def config_file(workdir: _Path) -> pathlib.Path:
  """Exists as soon as the run has begun."""
  return pathlib.Path(workdir) / "config.json"


def checkpoints(workdir: _Path) -> pathlib.Path:
  """The folder whose sub-folders are called as their steps."""
  return pathlib.Path(workdir) / "checkpoints"


def metrics(workdir: _Path) -> pathlib.Path:
  """See `train.writer`."""
  return pathlib.Path(workdir) / "metrics.jsonl"


def sample(workdir: _Path, step: int, name: str = "samples") -> pathlib.Path:
  """Clips of a step, without .png (film strips) or .gif (they move)."""
  stem = f"{step:07d}" if name == "samples" else f"{name}_{step:07d}"
  return pathlib.Path(workdir) / "samples" / stem


def evaluation(workdir: _Path, step: int) -> pathlib.Path:
  """The values of a step."""
  return pathlib.Path(workdir) / "eval" / f"{step}.json"


def evaluations(workdir: _Path) -> list[pathlib.Path]:
  """The values of all steps that were evaluated, the oldest step first."""
  paths = evaluation(workdir, 0).parent.glob("*.json")
  return sorted(
    (path for path in paths if path.stem.isdigit()),
    key=lambda path: int(path.stem),
  )


def report(workdir: _Path) -> pathlib.Path:
  """The page that shows the values."""
  return pathlib.Path(workdir) / "eval" / "report.html"


def cache(workdir: _Path) -> pathlib.Path:
  """The folder of what was computed of the real clips."""
  return pathlib.Path(workdir) / "eval" / "cache"


# --------------------------------------------------------------------- finding


def find(path: _Path) -> tuple[pathlib.Path, int | None]:
  """The workdir that a path means, and the step if it names a checkpoint."""
  path, step = pathlib.Path(path), None
  place = path.resolve()
  if place.parent.name == "checkpoints" and place.name.isdigit():
    step, place = int(place.name), place.parent
  return (place.parent if place.name == "checkpoints" else path), step


def saved(path: _Path) -> tuple[pathlib.Path, list[int]]:
  """The folder of the checkpoints that a path means, and their steps.

  Args:
    path: as above, or any folder of checkpoints.

  Returns:
    The folder and its steps, the newest first; one step if the path names it.

  Raises:
    WorkdirError: there is no checkpoint.
  """
  path = pathlib.Path(path).resolve()
  if path.name.isdigit() and (path / "meta").exists():
    return path.parent, [int(path.name)]
  for folder in (checkpoints(path), path):
    if numbers := steps_in(folder):
      return folder, numbers[::-1]
  others = steps_in(path.parent)
  raise WorkdirError(
    f"There is no checkpoint in {path}"
    + ("" if path.exists() else ", which does not exist")
    + (f"; there is {', '.join(map(str, others))}" if others else "")
    + ". Name the workdir of a training run, or one checkpoints/STEP of it."
  )


def steps(path: _Path) -> list[int]:
  """Steps saved in a workdir, the oldest first; see `saved`."""
  return sorted(saved(path)[1])


def steps_in(folder: pathlib.Path) -> list[int]:
  """Steps in a folder of checkpoints, perhaps none, the oldest first."""
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def inside(folder: _Path) -> list[pathlib.Path]:
  """Folders of checkpoints anywhere below a folder, which is to be removed."""
  places = pathlib.Path(folder).rglob(checkpoints("").name)
  return sorted(place for place in places if steps_in(place))


# ---------------------------------------------------------------------- config


def read_config(path: _Path) -> Any:
  """The ConfigDict of a run.

  Raises:
    WorkdirError: there is no run.
    ConfigError: its config.json is damaged, or of a later version.
  """
  path = pathlib.Path(path).resolve()
  for folder in (path, *path.parents[:2]):
    if config_file(folder).exists():
      try:
        return config_lib.from_json(config_file(folder).read_bytes())
      except errors.UserError as e:
        raise config_lib.ConfigError(f"{config_file(folder)}: {e}") from None
  raise WorkdirError(
    f"There is no run in {path}"
    + (" (no config.json)" if path.exists() else ", which does not exist")
    + ". Name the workdir of a training run."
  )


def write_config(workdir: _Path, config: Any) -> None:
  """Writes config.json: from now on the run exists."""
  files.write_text(config_file(workdir), config_lib.to_json(config))


@contextlib.contextmanager
def claimed(
  workdir: _Path, config: Any, lock: bool = True
) -> Iterator[pathlib.Path]:
  """Makes or takes over the folder of a run, alone.

  A folder in which a run was killed before its first step has a lock and no
  config.json: it may be used. One whose run ends before its first step is
  removed, unless it holds what no run has made.

  Args:
    workdir: made if it is missing.
    config: of the run that is about to start or to go on.
    lock: whether this process is the one of the run that writes.

  Yields:
    The workdir.

  Raises:
    WorkdirError: it holds another run, or something else.
    UserError: another process trains there.
  """
  workdir = pathlib.Path(workdir)
  begun, used = config_file(workdir).exists(), workdir / "lock"
  if begun:
    _check_config(workdir, config)
  elif workdir.exists():
    if steps := steps_in(checkpoints(workdir)):
      raise WorkdirError(
        f"{workdir} holds checkpoints ({', '.join(map(str, steps))}) and no "
        "config.json: put that of their run back, or name another --workdir."
      )
    if any(workdir.iterdir()) and not used.exists():
      raise WorkdirError(
        f"{workdir} is not empty and holds no run (no config.json). Name an "
        "empty or new folder as --workdir."
      )
  workdir.mkdir(parents=True, exist_ok=True)
  if not lock:
    yield workdir
    return
  with files.alone(used):
    try:
      yield workdir
    finally:
      if not begun and not config_file(workdir).exists():
        _discard(workdir)


def _check_config(workdir: pathlib.Path, config: Any) -> None:
  """Raises WorkdirError if the folder is that of a run of another config."""
  changed = [
    f"config.{name} is {old} there and {new} here"
    for name, (old, new) in differences(read_config(workdir), config).items()
    if name.split(".")[0] not in MAY_CHANGE
  ]
  if changed:
    more = f"; and {len(changed) - 8} more" if len(changed) > 8 else ""
    raise WorkdirError(
      f"{workdir} holds another run: {'; '.join(changed[:8])}{more}. Name "
      f"another --workdir, or set these as in {config_file(workdir)} to go "
      f"on with that run (only {', '.join(MAY_CHANGE)} may change)."
    )


def _discard(workdir: pathlib.Path) -> None:
  """Removes what a run made that has not begun; checkpoints stay.

  A folder of checkpoints that holds anything is that of a run which has begun:
  its config.json has been moved away since.
  """
  with contextlib.suppress(OSError):
    checkpoints(workdir).rmdir()
  if checkpoints(workdir).exists():
    return
  for name in ("samples", "eval"):
    shutil.rmtree(workdir / name, ignore_errors=True)
  names = "log.txt", "metrics.jsonl", "lock", "events.out.tfevents.*"
  for name in names:
    for path in workdir.glob(name):
      path.unlink()
  with contextlib.suppress(OSError):  # Somebody has put a file there.
    workdir.rmdir()


def differences(old: Any, new: Any) -> dict[str, tuple[str, str]]:
  """Fields in which two configs differ.

  Args:
    old: ConfigDict.
    new: ConfigDict.

  Returns:
    Dotted name, such as 'optim.g.lr' -> the two values as JSON, cut to 60
    characters; 'absent' where a config does not have the field.
  """
  old, new = (_flat(json.loads(config_lib.to_json(c))) for c in (old, new))
  return {
    name: (_short(name, old), _short(name, new))
    for name in sorted(old.keys() | new.keys())
    if name not in old or name not in new or old[name] != new[name]
  }


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested dicts -> dotted names; an empty dict is a value."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      flat |= _flat(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def _short(name: str, flat: dict[str, Any]) -> str:
  text = json.dumps(flat[name]) if name in flat else "absent"
  return text if len(text) <= 60 else f"{text[:57]}..."
