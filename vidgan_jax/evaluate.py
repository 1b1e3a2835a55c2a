"""`vidgan evaluate WORKDIR`: numbers for checkpoints.

The evaluators of `config.evals` (files of `vidgan_jax/evals`), or those named
with --evals, run on one checkpoint or on all. Results go to
WORKDIR/eval/STEP.json and to the terminal.
"""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
import importlib
import json
import os
import pathlib
import sys
from typing import Any

from vidgan_jax import config as config_lib


def make_evaluators(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Builds the evaluators that `config.evals` names: name -> Evaluator."""
  evaluators = {}
  for name, options in fields.items():
    config_lib.check_name(name, config_lib.names("evals"), "config.evals")
    module = importlib.import_module(f"vidgan_jax.evals.{name}")
    options = dict(options)
    config_lib.check_kwargs(module.Evaluator, options, f"config.evals.{name}")
    evaluators[name] = module.Evaluator(**options)
  return evaluators


def run(
  evaluators: Mapping[str, Any],
  model: Any,
  source: Any,
  log: Callable[[str], None] = print,
) -> dict[str, float]:
  """Runs evaluators on one model.

  Args:
    evaluators: from `make_evaluators`.
    model: a `generate.Model`.
    source: a `data.pipeline.EvalClips`.
    log: gets the table of an evaluator that has one (`text`).

  Returns:
    name -> value, in the order of the evaluators.

  Raises:
    RuntimeError: what went wrong in an evaluator, with its name.
  """
  values = {}
  for name, evaluator in evaluators.items():
    try:
      for key, value in evaluator.run(model, source):
        values[key] = float(value)
    except Exception as e:
      raise RuntimeError(f"Evaluator {name!r}: {e}") from e
    if getattr(evaluator, "text", ""):
      log(f"{name}, step {model.step}:\n{evaluator.text}")
  return values


def write(workdir: str | os.PathLike, step: int, values: Mapping) -> str:
  """Adds values to WORKDIR/eval/STEP.json and returns its path.

  What is there under other names stays. Numbers that are not finite are texts,
  as in metrics.jsonl.
  """
  from vidgan_jax import metrics

  folder = pathlib.Path(workdir) / "eval"
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f"{step}.json"
  part = folder / f".{step}.json.part"
  row = {"step": step}
  if path.exists():
    try:
      row |= json.loads(path.read_text())
    except ValueError:  # Cut short by a crash: nothing to keep.
      pass
  row |= {name: metrics.json_number(v) for name, v in values.items()}
  part.write_text(json.dumps(row, indent=2, allow_nan=False) + "\n")
  part.replace(path)
  return str(path)


def table(values: Mapping[str, float]) -> str:
  """The values as an aligned table."""
  width = max(map(len, values), default=0)
  return "\n".join(
    f"  {name:<{width}}  {v:10.4g}" for name, v in values.items()
  )


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan evaluate", description=__doc__.split("\n\n")[1]
  )
  parser.add_argument("workdir", help="of a training run")
  parser.add_argument("--step", type=int, help="checkpoint; default: newest")
  parser.add_argument("--all", action="store_true", help="every checkpoint")
  parser.add_argument(
    "--weights", choices=("ema", "raw"), default="ema", help="default: ema"
  )
  parser.add_argument(
    "--evals", help="names, comma separated, instead of the config's"
  )
  args = parser.parse_args(argv)

  from vidgan_jax import checkpoint
  from vidgan_jax import generate
  from vidgan_jax import tasks
  from vidgan_jax.data import pipeline

  try:
    config = checkpoint.read_config(args.workdir)
    evals = config.evals
    if args.evals:
      evals = {name: evals.get(name, {}) for name in args.evals.split(",")}
    if not evals:
      raise config_lib.ConfigError(
        f"The config of {args.workdir!r} names no evaluators; name some: "
        f"--evals {','.join(config_lib.names('evals'))}."
      )
    evaluators = make_evaluators(evals)
    source = pipeline.EvalClips(
      pipeline.make_source(config.data, "test"),
      config.data.eval_ops,
      task=tasks.create(config.task),
    )
    steps = checkpoint.steps(args.workdir) if args.all else [args.step]
    for step in steps:
      model = generate.load(args.workdir, step=step, weights=args.weights)
      values = run(evaluators, model, source)
      if args.weights == "raw":
        values = {f"{name}/raw": value for name, value in values.items()}
      path = write(args.workdir, model.step, values)
      print(f"Step {model.step}:\n{table(values)}\n  -> {path}")
  except (ValueError, OSError, RuntimeError) as e:
    print(f"vidgan evaluate: {e}", file=sys.stderr)
    return 1
  return 0
