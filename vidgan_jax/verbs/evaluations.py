"""What `vidgan evaluate` does, once its arguments are read and checked.

Checkpoints of a run, clips of any system in files, aligned videos: each is
measured, printed and written. Of several processes the first prints and writes.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import jax

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax import sampler as sampler_lib
from vidgan_jax.data import oplang
from vidgan_jax.data import order
from vidgan_jax.data import pipeline
from vidgan_jax.devices import processes
from vidgan_jax.evals import aligned
from vidgan_jax.evals import files
from vidgan_jax.evals import harness
from vidgan_jax.reports import evaluation
from vidgan_jax.store import files as files_lib
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.train import writer

LEAST = 8  # clips of each of two sets that can be compared
POLL = 10.0  # seconds between looks at a running job


def run(args: Any) -> None:
  """Evaluates what the arguments of `vidgan evaluate` say."""
  processes.use_cache()
  if args.paired:
    _paired(args)
    return
  processes.initialize()
  if args.workdir:
    _workdir(args)
  else:
    _files(args)


def _refuse(failed: Mapping[str, str], values: Mapping[str, Any]) -> None:
  """Ends the verb where evaluators failed, or where there is no number at all.

  What there is has been written.
  """
  if failed:
    raise errors.UserError("; ".join(failed.values()))
  if values and not harness.numbers(values):
    notes = dict.fromkeys(value.note for value in values.values())
    raise errors.UserError(
      "; ".join(["No value was computed", *filter(None, notes)])
    )


def _names(text: str | None) -> list[str]:
  """'a, b' -> ['a', 'b']."""
  return [name.strip() for name in (text or "").split(",") if name.strip()]


def _say(text: str) -> None:
  if _main():
    print(text, flush=True)


def _main() -> bool:
  """Whether this process is the one that prints and writes."""
  return jax.process_index() == 0


# ----------------------------------------------------------------- a workdir


def _workdir(args) -> None:
  workdir, step = workdir_lib.find(args.workdir)
  if step is not None:
    if args.step is not None or args.all or args.follow:
      raise config_lib.ConfigError(
        f"{args.workdir} is one checkpoint: give its run, or leave out --step, "
        "--all and --follow."
      )
    args.step = step
  args.workdir = str(workdir)
  config = workdir_lib.read_config(args.workdir)
  chosen = config.evals
  if args.metrics:
    chosen = {
      name: {**chosen.get(name, {}), **options}
      for name, options in harness.parse(args.metrics).items()
    }
  if args.fit_features:
    chosen = {**chosen, harness.LEARNT: chosen.get(harness.LEARNT, {})}
  if not chosen:
    raise config_lib.ConfigError(
      f"The config of {args.workdir!r} names no evaluators; name some: "
      f"--metrics {','.join(rooms.names('evals'))}."
    )
  options = harness.with_options(chosen, args.num)
  evaluators = harness.make_evaluators(options)
  reference = harness.reference(
    config, args.workdir, evaluators, train=args.fit_features
  )
  if args.fit_features:
    evaluators[harness.LEARNT].fit(reference, _say)
  judge = lambda step: _judge(
    args, evaluators, options, reference, config, step
  )
  if args.follow:
    _follow(args.workdir, config, judge)
    return
  for step in workdir_lib.steps(args.workdir) if args.all else [args.step]:
    judge(step)


def _judge(args, evaluators, options, reference, config, step) -> None:
  """Evaluates one checkpoint; one that is followed, only where it was not."""
  values, sampler, done, failed, exhibits = {}, None, {}, {}, {}
  path = workdir_lib.evaluation(args.workdir, step)
  before = harness.read(path).get("evaluators", {}) if args.follow else {}
  sides = ("ema", "raw") if args.weights == "both" else (args.weights,)
  for side in sides:
    suffix = "/raw" if side == "raw" else ""
    todo = {
      name: evaluator
      for name, evaluator in evaluators.items()
      if before.get(f"{name}{suffix}") != files_lib.plain(options[name])
    }
    if todo:
      sampler = sampler_lib.load(args.workdir, step=step, weights=side)
      sampler = dataclasses.replace(sampler, examples=reference.clips)
      results = harness.run(todo, sampler, reference, _say, failed, exhibits)
      values |= {f"{name}{suffix}": value for name, value in results.items()}
      done |= {
        f"{name}{suffix}": options[name] for name in todo if name not in failed
      }
  if sampler is None:
    _say(f"Step {step}: its values are in {path}.")
    return
  if _main():
    path = harness.write(args.workdir, sampler.step, values, done)
    writer.add(args.workdir, sampler.step, harness.numbers(values))
    table = harness.table(values) + harness.cards(values)
    _say(f"Step {sampler.step}:\n{table}\n  -> {path}")
    settings = {
      "title": str(args.workdir),
      "config": json.loads(config_lib.to_json(config)),
    }
    page = args.report or workdir_lib.report(args.workdir)
    _report(
      harness.records(args.workdir),
      harness.shown(sampler, reference, exhibits),
      settings,
      page,
    )
  _refuse(failed, values)


def _follow(workdir, config, judge) -> None:
  """Evaluates each checkpoint as it appears, until the run's last."""
  if jax.process_count() > 1:
    raise config_lib.ConfigError(
      "--follow is for one process: start it alone, or give several --all."
    )
  last, done = _last_step(config), set()
  _say(f"Following {workdir} until step {last}; Ctrl-C ends it.")
  while last not in done:
    try:
      steps = workdir_lib.steps(workdir)
    except workdir_lib.WorkdirError:
      steps = []  # None yet.
    for step in steps:
      if step in done:
        continue
      try:
        judge(step)
      except workdir_lib.WorkdirError as e:
        # The job keeps only some; this one may be gone meanwhile.
        if step in workdir_lib.steps(workdir):
          raise
        _say(f"Step {step} is gone: {e}")
      done.add(step)
    if last not in done:
      time.sleep(POLL)


def _last_step(config) -> int:
  size = None
  if "epoch" in str(config.total):
    source = pipeline.make_source(config.data, "train")
    ops = oplang.plan(config.data.ops)
    size = len(order.usable(source, ops, config.data.name)[0])
  return config_lib.steps(config.total, config.batch, size)


def _report(records, exhibits, settings, path, **more) -> None:
  page = evaluation.render(records, exhibits, settings, path, **more)
  _say(f"  -> {page}")


# -------------------------------------------------------------- clips in files


def _files(args) -> None:
  options = dict(
    frames=16 if args.frames is None else args.frames,
    stride=1 if args.stride is None else args.stride,
    size=args.size,
  )
  # Generated clips from where a video begins, real ones at random.
  generated = files.open_clips(args.generated, **options, offset="start")
  reference = files.open_clips(
    args.reference, **options, split=args.split or "test"
  )
  if args.split and "split" not in reference.card:
    raise config_lib.ConfigError(
      f"--split {args.split}: {args.reference} is not a data set; leave it "
      "out, or give the folder with dataset_info.json."
    )
  for path, clips in ((args.generated, generated), (args.reference, reference)):
    if len(clips) < LEAST:
      split = clips.card.get("split")
      raise errors.UserError(
        f"{path} has {len(clips)} clips"
        + (f" in its split {split!r} (another: --split)" if split else "")
        + f"; fewer than {LEAST} cannot tell two sets apart. For aligned "
        "videos there is --paired."
      )
  remarks = files.check(generated, reference)
  for remark in remarks if _main() else ():
    print(f"vidgan evaluate: warning: {remark}", file=sys.stderr)
  cache = pathlib.Path("~/.cache/vidgan_jax/eval").expanduser()
  reference = dataclasses.replace(reference, cache=cache)
  if args.train:
    train = files.open_clips(args.train, **options, split="train")
    train = dataclasses.replace(train, cache=cache)
    reference = dataclasses.replace(reference, train=train)
  if args.metrics:
    fields = harness.parse(args.metrics)
  else:
    fields = harness.default(options["frames"])
  if args.fit_features:
    fields.setdefault(harness.LEARNT, {})
  fields = harness.with_options(fields, args.num, args.frames)
  evaluators = harness.make_evaluators(fields)
  if args.fit_features:
    evaluators[harness.LEARNT].fit(reference, _say)
  failed: dict[str, str] = {}
  exhibits: dict[str, Any] = {}
  values = harness.run(evaluators, generated, reference, _say, failed, exhibits)
  _say(harness.table(values) + harness.cards(values))
  values = {
    name: dataclasses.replace(
      value, note="; ".join(filter(None, (value.note, *remarks)))
    )
    for name, value in values.items()
  }
  settings = {
    "generated": str(args.generated),
    "reference": str(args.reference),
    "metrics": {name: dict(given) for name, given in fields.items()},
    **options,
  }
  _put(args, values, settings, {"warnings": remarks} if remarks else {})
  if args.report and _main():
    exhibits = harness.shown(generated, reference, exhibits)
    _report({0: values}, exhibits, settings, args.report)
  _refuse(failed, values)


def _put(args, values, settings, more) -> None:
  """Writes --out."""
  if not (args.out and _main()):
    return
  row = {name: float(value) for name, value in values.items()}
  row["records"] = {name: value.record() for name, value in values.items()}
  out = pathlib.Path(args.out)
  files_lib.write_json(out, row | {"settings": settings} | more)
  _say(f"  -> {args.out}")


def _paired(args) -> None:
  names = _names(args.metrics)
  stride = args.stride or 1
  frames = slice(0, args.frames and (args.frames - 1) * stride + 1, stride)
  values, rows = aligned.run(*args.paired, names, frames)
  for note in dict.fromkeys(value.note for value in values.values()):
    if note and not note.startswith("no interval"):
      _say(note)
  _say(harness.table(values))
  out, reference = map(str, args.paired)
  settings = {"out": out, "reference": reference, "metrics": list(values)}
  _put(args, values, settings, {"videos": rows})
  if args.report:
    exhibits = aligned.extremes(*args.paired, rows, frames)
    _report({0: values}, exhibits, settings, args.report, videos=rows)
  _refuse({}, values)
