"""Runs evaluators: in training, of a workdir and of clips in files."""

import ast
from collections.abc import Callable
from collections.abc import Mapping
import importlib
import inspect
import json
import math
import os
import pathlib
import re
import traceback
from typing import Any

from vidgan_jax import calls
from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import rooms
from vidgan_jax import tasks
from vidgan_jax.data import pipeline
from vidgan_jax.data import reference as reference_lib
from vidgan_jax.data import text as text_lib
from vidgan_jax.evals import distribution
from vidgan_jax.evals import files
from vidgan_jax.store import files as files_lib
from vidgan_jax.store import workdir as workdir_lib

# What needs no weights, and FVD, which says how to get its own; and how many
# frames a clip must have at least.
DEFAULT = {"frd_random": 1, "swd": 1, "motion": 2, "memory": 1, "fvd": 9}
LEARNT = "fd_self"  # Learns its features from the data set.
_ALONE = "no interval: its evaluator gives the number alone"


# --------------------------------------------------------- names and options


def evaluator(name: str, where: str) -> type:
  """The class of an evaluator; a `ConfigError` where there is none."""
  rooms.check_name(name, rooms.names("evals"), where)
  return importlib.import_module(f"vidgan_jax.evals.{name}").Evaluator


def make_evaluators(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Builds the evaluators that `config.evals` names: name -> Evaluator."""
  evaluators = {}
  for name, options in fields.items():
    create = evaluator(name, "config.evals")
    # `cadence` is the loop's, not an option of the evaluator.
    options = {k: v for k, v in options.items() if k != "cadence"}
    rooms.check_kwargs(create, options, f"config.evals.{name}")
    evaluators[name] = create(**options)
  return evaluators


def parse(text: str) -> dict[str, dict[str, Any]]:
  """'a, b(c=1)' -> {'a': {}, 'b': {'c': 1}}: evaluators and their options."""
  example = "as \"fvd(protocol='tfhub'),swd\""
  try:
    node = ast.parse(text.strip(), mode="eval").body
  except SyntaxError as e:
    raise config_lib.ConfigError(
      f"--metrics {text!r} cannot be read at character {e.offset}: give names "
      f"of evaluators with commas between, {example}."
    ) from None
  fields, names = {}, rooms.names("evals")
  for item in node.elts if isinstance(node, ast.Tuple | ast.List) else [node]:
    called = item.func if isinstance(item, ast.Call) else item
    name = ast.unparse(called).replace(" ", "")
    if name not in names:
      # Of a value, as 'fvd2048_16f' or 'motion/order': its evaluator.
      stem = re.split(r"[\d/]", name)[0]
      near = [k for k in names if k.startswith(stem)][:1] or names
      raise config_lib.ConfigError(
        f"--metrics: {name!r} is not an evaluator. "
        f"{rooms.nearest(near[0] if len(near) == 1 else stem, near)} "
        "docs/metrics.md lists the values of each."
      )
    if name in fields:
      raise config_lib.ConfigError(
        f"--metrics names {name!r} twice, and its values would have the same "
        "names: run the verb twice, with an --out each."
      )
    call = ast.unparse(item)
    [(_, args, options)] = calls.parse(call, "--metrics", "fd_self(num=64)")
    if args:
      raise config_lib.ConfigError(
        f"--metrics: {call!r}: options have names, {example}."
      )
    create = evaluator(name, "--metrics")
    rooms.check_kwargs(create, options, f"--metrics: {name}")
    fields[name] = options
  return fields


def with_options(
  fields: Mapping[str, Any], num: int | None = None, frames: int | None = None
) -> dict[str, dict[str, Any]]:
  """Evaluators and their options, with more where they know them.

  Args:
    fields: name -> options.
    num: clips that each is to use; None: its own number.
    frames: of a clip, for networks that look at so many, unless an option says
      another number; None: their own numbers.
  """
  asked = {}
  for name, options in fields.items():
    create = evaluator(name, "--metrics")
    known = inspect.signature(create).parameters
    asked[name] = dict(options)
    if num is not None and "num" in known:
      asked[name]["num"] = num
    looks = issubclass(create, distribution.Distance) and "frames" in known
    if frames is not None and looks:
      asked[name].setdefault("frames", frames)
  return asked


def default(frames: int) -> dict[str, dict[str, Any]]:
  """The evaluators that are run unless others are asked for.

  Args:
    frames: of a clip. The network of some needs more.
  """
  return {name: {} for name, least in DEFAULT.items() if least <= frames}


# ------------------------------------------------------------------- running


def reference(
  config: Any,
  workdir: str | os.PathLike,
  evaluators: Mapping[str, Any],
  train: bool = False,
  encoder: text_lib.Encoder | None = None,
) -> evals.Reference:
  """The held-out clips of a run.

  Args:
    config: of the run.
    workdir: what is computed of the clips is kept below it.
    evaluators: name -> Evaluator; for one with `needs_train` the training clips
      come with them. Without any the clips are not described.
    train: the training clips are to come in any case.
    encoder: see `pipeline.make_source`.
  """
  task = tasks.create(config.task)

  def split(name, **more):
    source = pipeline.make_source(config.data, name, encoder)
    clips = reference_lib.Clips(source, config.data.eval_ops, task=task)
    if evaluators:
      card, fingerprint = _described(clips, config, name)
      more |= {"card": card, "fingerprint": fingerprint}
      more["cache"] = workdir_lib.cache(workdir)
    return evals.Reference(clips=clips, task=task, world=clips.world, **more)

  needed = any(map(_needs_train, evaluators.values()))
  return split("test", train=split("train") if train or needed else None)


def too_few(
  evaluators: Mapping[str, Any], reference: evals.Reference
) -> dict[str, str]:
  """Evaluators that need more real clips than there are: name -> a sentence."""
  sentences = {}
  for name, evaluator in evaluators.items():
    least = getattr(evaluator, "least", 0)
    sets = {"held-out": reference} if least else {}
    if least and _needs_train(evaluator) and reference.train is not None:
      sets["training"] = reference.train
    for kind, num in ((kind, len(clips)) for kind, clips in sets.items()):
      if num < least:
        sentences[name] = (
          f"it needs at least {least} {kind} clips, and there "
          f"{'are' if num != 1 else 'is'} {num}: prepare more videos, or "
          "shorter clips of them (--max-frames)"
        )
  return sentences


def _needs_train(evaluator: Any) -> bool:
  return getattr(evaluator, "needs_train", False)


def _described(clips, config, split) -> tuple[dict[str, Any], str]:
  """What the clips are, for protocols, and a name for what is kept of them."""
  content = files.content(clips)
  folder = config.data.options.get("directory")
  data = json.loads(config_lib.to_json(config))["data"]
  stamp = files.stamp(pathlib.Path(folder)) if folder else None
  card = {
    "data": config.data.name,
    "options": data["options"],
    "content": content,
    "split": data[split],
    "ops": config.data.eval_ops,
    "clips": len(clips),
  }
  return card, repr([data, split, len(clips), content, stamp])


def run(
  evaluators: Mapping[str, Any],
  sampler: Any,
  reference: evals.Reference,
  log: Callable[[str], None] = print,
  failed: dict[str, str] | None = None,
  exhibits: dict[str, evals.Exhibit] | None = None,
) -> dict[str, evals.Value]:
  """Runs evaluators on one sampler.

  Args:
    evaluators: from `make_evaluators`.
    sampler: a `sampler.Sampler`, or clips of files.
    reference: real clips.
    log: gets the tables of exhibits, and a line for each reason why values are
      missing.
    failed: gets name -> what went wrong in an evaluator. Its name has a value
      that could not be computed, and the others go on; None: that is an error.
    exhibits: gets title -> clips worth a look; None: nobody looks.

  Returns:
    name -> value, in the order of the evaluators.

  Raises:
    Exception: what went wrong in an evaluator, with a note of its name.
  """
  values, few = {}, too_few(evaluators, reference)
  for name, evaluator in evaluators.items():
    results, tables = {}, []
    if name in few:
      results[name] = evals.missing(f"not computed: {few[name]}")
    try:
      for key, result in (
        () if name in few else evaluator.run(sampler, reference)
      ):
        if isinstance(result, evals.Exhibit):
          tables += [result.text] if result.text else []
          if exhibits is not None:
            exhibits[key] = result
        elif isinstance(result, evals.Value):
          results[key] = result
        else:
          results[key] = evals.Value(float(result), note=_ALONE)
    except Exception as e:
      if failed is None:
        e.add_note(f"This was the evaluator {name!r}.")
        raise
      if errors.shown_whole(e):
        traceback.print_exc()
      failed[name] = f"Evaluator {name!r}: {e}"
      results[name] = evals.missing(f"not computed: {e}")
    missing = (v.note for v in results.values() if math.isnan(float(v)))
    for note in dict.fromkeys(filter(None, missing)):
      log(f"{name}: {note}")
    values |= results
    for table in tables:
      log(table)
  return values


def shown(
  sampler: Any,
  reference: evals.Reference,
  exhibits: Mapping[str, evals.Exhibit],
) -> dict[str, evals.Exhibit]:
  """Exhibits for a page, beside generated and real clips."""
  if reference.task is not None and reference.task.footage is not None:
    return dict(exhibits)  # It draws no clips by itself.
  drawn = {
    "Generated": evals.Exhibit(
      clips=lambda: next(distribution.generated_clips(sampler, 1, 8, 8))
    ),
    "Real": evals.Exhibit(
      clips=lambda: next(
        distribution.real_clips(reference, min(8, len(reference)), 8)
      )
    ),
  }
  return drawn | exhibits


# ------------------------------------------------------------------- results


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
  """What a curve can show: without the values that could not be computed."""
  plain = {name: float(value) for name, value in values.items()}
  return {name: x for name, x in plain.items() if not math.isnan(x)}


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
  # A run and others that evaluate it write one file in turns.
  with files_lib.locked(workdir_lib.metrics(workdir)):
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
    files_lib.write_json(path, row | {name: x for name, x in more.items() if x})
  return str(path)


def read(path: pathlib.Path) -> dict[str, Any]:
  """What `write` wrote; nothing where the file is damaged or not there."""
  try:
    row = json.loads(path.read_bytes())
  except (FileNotFoundError, ValueError, RecursionError):
    return {}
  whole = isinstance(row, dict) and all(
    isinstance(row.get(part, {}), dict) for part in ("records", "evaluators")
  )
  return row if whole else {}


def records(workdir: str | os.PathLike) -> dict[int, dict[str, Any]]:
  """All values of a run: step -> name -> record, or number without one."""
  steps = {}
  for path in workdir_lib.evaluations(workdir):
    row = read(path)
    if "step" not in row:
      continue
    known = row.pop("records", {})
    for other in ("step", "evaluators"):
      row.pop(other, None)
    try:
      steps[int(path.stem)] = {
        name: known.get(name, float(value)) for name, value in row.items()
      }
    except (TypeError, ValueError) as e:
      raise errors.UserError(
        f"{path} is damaged ({errors.brief(e)}): move it away, or bring it "
        "back from a copy."
      ) from e
  return steps


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
      other = values.get(f"{name}/raw")
      alike = other and not evals.told_apart(values[name], other)
      cells += [_cell(other), evals.NOT_APART if alike else ""]
    lines.append(f"  {name:<{width}}  " + "  ".join(cells).rstrip())
  return "\n".join(lines)


def _cell(value: Any) -> str:
  if value is None:
    return " " * 31
  if math.isnan(float(value)):
    return f"{'not computed':>31}" if value.note else f"{'nan':>10}"
  text = f"{float(value):10.4g}"
  if value.low is not None:
    text += f" [{value.low:.4g}, {value.high:.4g}]"
  return f"{text:<31}"


def cards(values: Mapping[str, Any]) -> str:
  """What stands under the table: a line for each distance, and the notes."""
  lines, others = [], {}
  for name, value in values.items():
    facts, note = value.protocol, value.note
    if math.isnan(float(value)):
      continue  # `run` has said why.
    if "network" in facts and value.better == "lower":
      num, (frames, *size) = facts["num"], facts["size"]
      line = (
        f"  {name}: {num['generated']} generated, {num['real']} real, "
        f"{facts['network']}, {facts.get('frames') or frames} frames of "
        f"{' x '.join(map(str, size))}, hash {value.hash}"
      )
      lines.append("; ".join(filter(None, (line, note))))
    elif note and not note.startswith("no interval"):
      others.setdefault(note, []).append(name)
  for note, names in others.items():
    new = [x for x in note.split("; ") if not any(x in line for line in lines)]
    if new:
      more = f" and {len(names) - 1} more" * (len(names) > 1)
      lines.append(f"  {names[0]}{more}: {'; '.join(new)}")
  return "".join(f"\n{line}" for line in lines)
