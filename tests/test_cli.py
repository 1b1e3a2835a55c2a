"""The command itself: help, mistakes, and what is imported when."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

import vidgan_jax
from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax import rooms

ROOT = pathlib.Path(__file__).parents[1]
OPTIONS = {
  "prepare": (
    "SRC DIR --layout --exclude --size --upscale --square --fps --frame-width "
    "--shots --max-frames --min-frames --encoding --quality --labels --classes "
    "--metadata --test --test-match --workers --overwrite"
  ),
  "train": "--config --workdir --config.optim.g.lr",
  "evaluate": (
    "workdir --step --all --follow --weights --metrics --generated --reference "
    "--train --paired --frames --stride --size --num --fit-features --out "
    "--report --overwrite"
  ),
  "generate": (
    "workdir --out --step --weights --seed --num --frames --fps --start "
    "--speed --label --truncation --vary --interpolate --grid --strip --scale "
    ".mp4 .gif .webp .png"
  ),
  "paint": "RUN --first --step --weights --port",
  "process": (
    "SPEC IN OUT --codec --crf --preset --pix-fmt --format --no-audio --start "
    "--end --trim --concat --crop --fps --speed --mask --grow --strength "
    "--compare --tile --chunk --memory --resume --probe"
  ),
  "weights": "convert NAME FILE",
  "study": "make serve report --a --b DIR",
}


def python(code, **env):
  """Runs Python in a fresh process; returns what it prints."""
  result = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"} | env,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


# ---------------------------------------------------------------------- help


def test_there_is_help_for_every_verb():
  assert list(OPTIONS) == list(cli._VERBS)


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_of_a_verb_mentions_all_options(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.main([verb, "--help"])
  assert stop.value.code == 0
  text = capsys.readouterr().out
  assert text.startswith(f"usage: vidgan {verb}")
  for option in OPTIONS[verb].split():
    assert option in text, option


def test_help_names_the_verbs(capsys):
  for option in ("--help", "-h", "help"):
    assert cli.main([option]) == 0
    text = capsys.readouterr().out
    for verb in OPTIONS:
      assert f"\n  {verb} " in text
  assert cli.main([]) == 2


def test_version_as_a_module():
  result = subprocess.run(
    [sys.executable, "-m", "vidgan_jax", "--version"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert (result.returncode, result.stderr) == (0, "")
  assert result.stdout == f"{vidgan_jax.__version__}\n"


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
  "word, verb",
  [
    ("trian", "train"),
    ("eval", "evaluate"),
    ("sample", "prepare"),
    ("genrate", "generate"),
    ("prep", "prepare"),
  ],
)
def test_unknown_verbs(word, verb, capsys):
  assert cli.main([word]) == 2
  text = capsys.readouterr().err
  assert f"no verb {word!r}" in text
  if word != "sample":  # Like none of them.
    assert f"did you mean {verb!r}" in text
  for verb in OPTIONS:
    assert f"\n  {verb} " in text


@pytest.mark.parametrize(
  "argv",
  [
    ["evaluate", "--paired", "a", "b", "--out"],
    ["evaluate", "w", "--report"],
    ["generate", "w", "--out"],
    ["study", "report", "s", "--html"],
  ],
)
def test_what_is_there_is_not_replaced(tmp_path, capsys, argv):
  """Before anything is read: neither the workdir nor the clips are there."""
  for name in ("x.mp4", "x.json"):
    (tmp_path / name).write_text("mine")
  out = str(tmp_path / ("x.mp4" if "generate" in argv else "x.json"))
  assert cli.main([*argv, out]) == 1
  assert f"{out}: is there already" in capsys.readouterr().err
  assert cli.main([*argv, out, "--overwrite"]) == 1  # for another reason
  assert "is there already" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", OPTIONS)
def test_unknown_options(verb, tmp_path, capsys):
  required = {
    "prepare": ["a", "b"],
    "train": ["--config", "c", "--workdir", str(tmp_path / "w")],
    "evaluate": ["w"],
    "generate": ["w", "--out", "a.mp4"],
    "paint": ["w"],
    "process": ["identity", "a.mp4", "b.mp4"],
    "weights": [],
    "study": ["serve", "s"],
  }[verb]
  with pytest.raises(SystemExit) as stop:
    cli.main([verb, *required, "--nonsense=3"])
  assert stop.value.code == 2
  text = capsys.readouterr().err
  assert f"vidgan {verb}: error: " in text and "--nonsense" in text
  assert not list(tmp_path.iterdir())


# What a user can mend, in each verb; and a function that the verb calls.
MISTAKES = {
  "prepare": (["gone", "out"], "prepare.prepare", "gone"),
  "train": (["--config=gone.py", "--workdir=w"], "config_lib.load", "gone.py"),
  "evaluate": (["gone"], "_check", "gone"),
  "generate": (["gone", "--out=a.mp4"], "_generate", "gone"),
  "paint": (["gone"], "_serve", "gone"),
  "process": (["denois", "a.mp4", "b.mp4"], "stages.chain", "denoise"),
  "weights": (["convert", "gone", "w.pt"], "store.convert", "gone"),
  "study": (["report", "gone"], "_report", "gone"),
}


@pytest.mark.parametrize("verb", OPTIONS)
def test_only_what_a_user_can_mend_is_one_paragraph(
  verb, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("VIDGAN_TRACEBACK", raising=False)
  argv, inner, word = MISTAKES[verb]
  assert cli.main([verb, *argv]) == 1
  text = capsys.readouterr().err
  assert text.startswith(f"vidgan {verb}: ") and word in text
  assert "Traceback" not in text and "\n\n" not in text
  monkeypatch.setenv("VIDGAN_TRACEBACK", "1")
  with pytest.raises((errors.UserError, OSError), match=word):
    cli.main([verb, *argv])
  monkeypatch.delenv("VIDGAN_TRACEBACK")

  def fault(*args, **kwargs):
    raise ValueError("shapes (2, 3) and (4,) do not fit")

  monkeypatch.setattr(f"vidgan_jax.verbs.{verb}.{inner}", fault)
  with pytest.raises(ValueError, match="do not fit") as raised:
    cli.main([verb, *argv])
  assert type(raised.value) is ValueError


def test_a_name_with_a_line_break_does_not_break_the_line(tmp_path, capsys):
  (tmp_path / "config.json").write_text('{"x\\ny": 1}')
  assert cli.main(["evaluate", str(tmp_path)]) == 1
  assert capsys.readouterr().err.count("\n") == 1


def test_an_error_of_the_system_names_its_file(monkeypatch, capsys):
  monkeypatch.delenv("VIDGAN_TRACEBACK", raising=False)
  monkeypatch.setattr(
    "vidgan_jax.verbs.weights.main", lambda argv: open("/gone/file")
  )
  assert cli.main(["weights"]) == 1
  text = capsys.readouterr().err
  assert text == "vidgan weights: /gone/file: No such file or directory\n"


def test_closed_streams():
  """`>&-`: no file that is opened later may be taken for them."""
  code = "import os; from vidgan_jax import cli; cli.main(['--version']); "
  code += "os.write(3, str(os.open('/dev/null', 0)).encode())"
  command = f'"{sys.executable}" -c "{code}" 3>&1 <&- >&- 2>&-'
  ran = subprocess.run(command, shell=True, capture_output=True, text=True)
  assert (ran.returncode, ran.stdout, ran.stderr) == (0, "4", "")


@pytest.mark.parametrize(
  "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
def test_interrupted(monkeypatch, capsys, number):
  before = signal.getsignal(number)
  interrupt = lambda argv: signal.raise_signal(number)
  monkeypatch.setattr("vidgan_jax.verbs.evaluate.main", interrupt)
  assert cli.main(["evaluate", "w"]) == 130
  assert "stopped by Ctrl-C or SIGTERM" in capsys.readouterr().err
  assert signal.getsignal(number) == before


@pytest.mark.parametrize(
  "given, level", [((), "3"), (("1",), "3"), (("0",), "0"), (("2",), "2")]
)
def test_a_user_sees_our_lines_alone(given, level, monkeypatch):
  """Libraries read this when a verb imports them; 1 is what JAX sets."""
  environ = dict(zip(["TF_CPP_MIN_LOG_LEVEL"], given))
  monkeypatch.setattr(os, "environ", environ)
  imported = lambda argv: print(environ["TF_ENABLE_ONEDNN_OPTS"])
  monkeypatch.setattr("vidgan_jax.verbs.weights.main", imported)
  assert cli.main(["weights"]) == 0
  assert environ["TF_CPP_MIN_LOG_LEVEL"] == level


# ------------------------------------------------------------------- imports


def test_importing_the_package_is_free():
  seconds, heavy = python(
    """
    import sys, time
    start = time.perf_counter()
    import vidgan_jax
    seconds = time.perf_counter() - start
    heavy = {"jax", "flax", "numpy", "tensorflow", "ml_collections"}
    print(seconds, sorted(heavy & set(sys.modules)), sep="\\n")
    """
  ).splitlines()
  assert float(seconds) < 0.3
  assert heavy == "[]"


def test_help_loads_nothing_that_it_does_not_need():
  lines = python(
    """
    import contextlib, io, sys
    from vidgan_jax import cli
    heavy = {"jax", "tensorflow", "tensorflow_datasets", "clu", "orbax"}
    for verb in ("train", "evaluate", "prepare", "generate"):
      with contextlib.redirect_stdout(io.StringIO()):
        try:
          cli.main([verb, "--help"])
        except SystemExit:
          pass
      print(verb, *sorted(heavy & set(sys.modules)))
    """
  ).splitlines()
  assert lines == ["train", "evaluate", "prepare", "generate jax"]


def test_what_computes_does_not_import_tensorflow():
  entries = [
    f"{room}.{name}"
    for room in ("models", "losses", "tasks", "evals")
    for name in rooms.names(room)
  ]
  modules = [
    *("train.step", "train.state", "train.optim", "train.loop", "train.writer"),
    *("devices.sharding", "store.checkpoint", "config", "sampler"),
    "verbs.evaluations",
    *("data.memory", "data.sprites", "data.pipeline", "data.reference"),
    *("losses.penalties", "losses.augment", "evals.features"),
    *entries,
  ]
  found = python(
    f"""
    import importlib, sys
    for name in {modules}:
      importlib.import_module("vidgan_jax." + name)
    heavy = ("tensorflow", "tensorflow_datasets", "clu", "tensorboard")
    print([name for name in heavy if name in sys.modules])
    """
  )
  assert found == "[]\n"


def test_data_in_memory_trains_without_tensorflow(tmp_path):
  """As on a bare GPU machine: neither TensorFlow nor clu can be imported."""
  text = python(
    f"""
    import sys

    absent = {{"tensorflow", "tensorflow_datasets", "clu", "tensorboard"}}

    class Without:
      def __init__(self, finder):
        self.finder = finder

      def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
          return None
        return self.finder.find_spec(name, path, target)

      def __getattr__(self, name):
        return getattr(self.finder, name)

    sys.meta_path[:] = map(Without, sys.meta_path)
    from vidgan_jax import cli
    workdir = {str(tmp_path / "run")!r}
    flags = [
      "total=2steps", "cadence.sample=2steps", "cadence.eval=2steps",
      "model.generator.widths=(8,)", "model.discriminator.widths=(8,)",
      "evals={{'frd_random': {{'num': 4}}}}",
    ]
    flags = ["--config." + flag for flag in flags]
    config = "configs/smoke.py:model=mlp"
    train = ["train", "--config", config, "--workdir", workdir, *flags]
    assert cli.main(train) == 0
    assert cli.main(["evaluate", workdir]) == 0
    assert cli.main(["generate", workdir, "--out", workdir + ".mp4"]) == 0
    assert not absent & set(sys.modules)
    """
  )
  assert "Finished: 2 steps" in text
  names = {p.name for p in (tmp_path / "run").iterdir()}
  assert names == {
    *("config.json", "checkpoints", "eval", "samples", "metrics.jsonl"),
    *("log.txt", "lock"),
  }
  assert (tmp_path / "run.mp4").stat().st_size > 500
