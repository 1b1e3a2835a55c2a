"""Runs evaluators: in training, of a workdir and of clips in files."""

from collections.abc import Callable
from collections.abc import Mapping
import importlib
import json
import math
import os
import pathlib
import re
import traceback
from typing import Any

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import rooms
from vidgan_jax.store import files as files_lib
from vidgan_jax.store import workdir as workdir_lib

_ALONE = "no interval: its evaluator gives the number alone"


def make_evaluators(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Builds the evaluators that `config.evals` names: name -> Evaluator."""
  evaluators = {}
  for name, options in fields.items():
    rooms.check_name(name, rooms.names("evals"), "config.evals")
    module = importlib.import_module(f"vidgan_jax.evals.{name}")
    # When it runs in training is no matter of its own.
    options = {k: v for k, v in options.items() if k != "cadence"}
    rooms.check_kwargs(module.Evaluator, options, f"config.evals.{name}")
    evaluators[name] = module.Evaluator(**options)
  return evaluators


def real_clips(config: Any, workdir: str | os.PathLike, evaluators: Any) -> Any:
  """The held-out clips of a run, as evaluators take them.

  Args:
    config: of the run.
    workdir: what is computed of the clips is kept below it.
    evaluators: name -> Evaluator; for those with `needs_train` the result has
      the training clips as `train`.

  Returns:
    A `data.reference.Clips` that says what it is: `card`, `fingerprint` and
    `cache`, see `evals.distribution`.
  """
  from vidgan_jax import tasks
  from vidgan_jax.data import pipeline
  from vidgan_jax.data import reference

  clips = lambda split: reference.Clips(
    pipeline.make_source(config.data, split),
    config.data.eval_ops,
    task=tasks.create(config.task),
  )
  source, cache = clips("test"), workdir_lib.cache(workdir)
  if evaluators:
    _describe(source, config, "test", cache)
  if any(getattr(one, "needs_train", False) for one in evaluators.values()):
    source.train = clips("train")
    _describe(source.train, config, "train", cache)
  return source


def _describe(source, config, split, cache) -> None:
  """Says what the clips are, for protocols and for what is kept of them."""
  from vidgan_jax.evals import files

  content = files.content(source)
  folder = config.data.options.get("directory")
  data = json.loads(config_lib.to_json(config))["data"]
  source.fingerprint = repr(
    [
      data,
      split,
      len(source),
      content,
      files.stamp(pathlib.Path(folder)) if folder else None,
    ]
  )
  source.cache = cache
  source.card = {
    "data": config.data.name,
    "options": data["options"],
    "content": content,
    "split": data[split],
    "ops": config.data.eval_ops,
    "clips": len(source),
  }


def run(
  evaluators: Mapping[str, Any],
  model: Any,
  source: Any,
  log: Callable[[str], None] = print,
  failed: dict[str, str] | None = None,
) -> dict[str, evals.Value]:
  """Runs evaluators on one model.

  Args:
    evaluators: from `make_evaluators`.
    model: a `generate.Model`, or clips of files.
    source: a `data.reference.Clips`, or clips of files.
    log: gets the table of an evaluator that has one (`text`), and a line for
      each reason why values are missing.
    failed: gets name -> what went wrong in an evaluator, which is a value of
      its name that could not be computed, and the others go on; None: that is
      an error.

  Returns:
    name -> value, in the order of the evaluators.

  Raises:
    Exception: what went wrong in an evaluator, with a note of its name.
  """
  values = {}
  for name, evaluator in evaluators.items():
    found = {}
    try:
      for key, value in evaluator.run(model, source):
        if not isinstance(value, evals.Value):
          value = evals.Value(float(value), note=_ALONE)
        found[key] = value
    except Exception as e:
      if failed is None:
        e.add_note(f"This was the evaluator {name!r}.")
        raise
      if errors.shown_whole(e):
        traceback.print_exc()
      failed[name] = f"Evaluator {name!r}: {e}"
      found[name] = evals.missing(f"not computed: {e}")
    for note in dict.fromkeys(
      value.note for value in found.values() if math.isnan(float(value))
    ):
      if note:
        log(f"{name}: {note}")
    values |= found
    if getattr(evaluator, "text", ""):
      log(f"{name}, step {model.step}:\n{evaluator.text}")
  return values


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
  """What a curve can show: without the values that could not be computed."""
  found = {name: float(value) for name, value in values.items()}
  return {name: x for name, x in found.items() if not math.isnan(x)}


def write(
  workdir: str | os.PathLike,
  step: int,
  values: Mapping[str, Any],
  evaluators: Mapping[str, Any] | None = None,
) -> str:
  """Adds values to WORKDIR/eval/STEP.json and returns its path.

  The file holds name -> number, the same names with all that is known of them
  under 'records', and which evaluators have run, with their options, under
  'evaluators'. What is there under other names stays. Numbers that are not
  finite are texts, as in metrics.jsonl.
  """
  path = workdir_lib.evaluation(workdir, step)
  row = {"step": step} | read(path)
  records = row.pop("records", {})
  done = row.pop("evaluators", {}) | files_lib.plain(evaluators or {})
  for name in evaluators or {}:  # It may have failed before.
    row.pop(name, None)
    records.pop(name, None)
  row |= {name: float(value) for name, value in values.items()}
  records |= {
    name: value.record()
    for name, value in values.items()
    if isinstance(value, evals.Value)
  }
  more = {"records": records, "evaluators": done}
  path.parent.mkdir(parents=True, exist_ok=True)
  files_lib.write_json(path, row | {name: x for name, x in more.items() if x})
  return str(path)


def read(path: pathlib.Path) -> dict[str, Any]:
  """What `write` wrote; nothing where a crash cut it short."""
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, ValueError):
    return {}


def table(values: Mapping[str, Any]) -> str:
  """The values with their intervals, and the raw weights' beside them."""
  names = [n for n in values if not n.endswith("/raw")]
  names += [
    n for n in values if n.endswith("/raw") and n[: -len("/raw")] not in values
  ]
  raw = any(f"{name}/raw" in values for name in names)
  width = max(map(len, names), default=0)
  lines = [f"  {'':<{width}}  {'ema':>31}  {'raw':>31}"] if raw else []
  for name in names:
    cells = [_cell(values[name])]
    if raw:
      cells.append(_cell(values.get(f"{name}/raw")))
    lines.append(f"  {name:<{width}}  " + "  ".join(cells).rstrip())
  return "\n".join(lines)


def _cell(value: Any) -> str:
  if value is None:
    return " " * 31
  if math.isnan(float(value)):
    return (
      f"{'not computed':>31}" if getattr(value, "note", "") else f"{'nan':>10}"
    )
  text = f"{float(value):10.4g}"
  if getattr(value, "low", None) is not None:
    text += f" [{value.low:.4g}, {value.high:.4g}]"
  return f"{text:<31}"


def cards(values: Mapping[str, Any]) -> str:
  """What stands under the table: a line for each distance, and the notes."""
  lines, told = [], {}
  for name, value in values.items():
    facts = getattr(value, "protocol", {})
    note = getattr(value, "note", "")
    if math.isnan(float(value)):
      continue  # `run` has told why.
    if "network" in facts and re.search(
      "Frechet|MMD", facts.get("estimator", "")
    ):
      num, (frames, *size) = facts["num"], facts["size"]
      line = (
        f"  {name}: {num['generated']} generated, {num['real']} real, "
        f"{facts['network']}, {facts.get('frames') or frames} frames of "
        f"{' x '.join(map(str, size))}, hash {value.hash}"
      )
      lines.append("; ".join(filter(None, (line, note))))
    elif note and not note.startswith("no interval"):
      told.setdefault(note, []).append(name)
  for note, names in told.items():
    if not any(line.endswith(note) for line in lines):
      more = f" and {len(names) - 1} more" * (len(names) > 1)
      lines.append(f"  {names[0]}{more}: {note}")
  return "".join(f"\n{line}" for line in lines)
