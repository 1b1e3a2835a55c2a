"""Configs: misspellings are named, values are typed, nothing is lost."""

import json
import subprocess
import sys

import ml_collections
import pytest

from vidgan_jax import config
from vidgan_jax import errors
from vidgan_jax import fields


def leaves(tree, prefix=""):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield prefix + key


LEAVES = sorted(leaves(config.default().to_dict()))


def write(tmp_path, body, name="x.py"):
  file = tmp_path / name
  file.write_text("from vidgan_jax import config as c\n" + body)
  return str(file)


# ------------------------------------------------------------------- fields


def test_default_is_valid_and_complete():
  default = config.default()
  assert config.validate(default).to_dict() == default.to_dict()


def test_validate_does_not_change_its_argument():
  given = config.default()
  given.penalties = {"r1": {"weight": 3.0}}
  assert config.validate(given).penalties.r1.interval == 1
  assert "interval" not in given.penalties.r1


def test_imports_nothing_heavy():
  code = (
    "import sys; from vidgan_jax import config; "
    "config.validate(config.default()); "
    "print([m for m in ('jax', 'flax', 'tensorflow') if m in sys.modules])"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == "[]"


def test_a_field_is_added_in_one_place(monkeypatch):
  monkeypatch.setitem(config.FIELDS, "rest", fields.Duration("2kimg"))
  assert config.default().rest == "2kimg"
  given = config.override(config.default(), ["--config.rest=3epochs"])
  assert config.validate(config.from_json(config.to_json(given))).rest == (
    "3epochs"
  )
  for flag, text in (("rest=soon", "config.rest: 'soon'"), ("rst=1", ".rest'")):
    with pytest.raises(errors.UserError, match=text):
      config.validate(config.override(given, [f"--config.{flag}"]))


# ------------------------------------------------------------ misspellings


@pytest.mark.parametrize("path", LEAVES)
def test_each_misspelt_leaf_is_named(path):
  # The last letter twice: no field is called that.
  with pytest.raises(errors.UserError, match=f"'config.{path}'"):
    config.override(config.default(), [f"--config.{path}{path[-1]}=1"])


@pytest.mark.parametrize(
  "wrong, right",
  [
    ("optm.g.lr", "optim.g.lr"),
    ("optim.g.learning_rate", "optim.g."),
    ("lr", "optim."),
    ("batch_size", "batch"),
    ("model.res", "model.resolution"),
    ("cadence.smaple", "cadence.sample"),
    ("penalties.r1.wieght", "penalties.r1.weight"),
  ],
)
def test_misspelt_parents(wrong, right):
  with pytest.raises(errors.UserError, match=f"mean 'config.{right}"):
    config.override(config.default(), [f"--config.{wrong}=1"])


def test_misspelt_in_a_dict():
  given = {"optim": {"g": {"lrr": 1e-3}}}
  with pytest.raises(errors.UserError, match="'config.optim.g.lr'"):
    config.complete(given)
  given = {"penalties": {"r1": {"gamma": 1.0, "interva": 3}}}
  with pytest.raises(errors.UserError, match="config.penalties.r1"):
    config.complete(given)
  with pytest.raises(errors.UserError, match="group of fields"):
    config.complete({"optim": 3})


def test_misspelt_in_a_file_tells_the_line(tmp_path):
  path = write(
    tmp_path,
    "def get_config(arg=''):\n  x = c.default()\n  x.optim.g.lrr = 1\n"
    "  return x\n",
  )
  with pytest.raises(errors.UserError) as e:
    config.load(path)
  assert f"{path}:4" in str(e.value) and "lr" in str(e.value)
  assert len(str(e.value)) < 400  # not the whole config


def test_wrong_type_in_a_file(tmp_path):
  path = write(
    tmp_path,
    "def get_config(arg=''):\n  x = c.default()\n  x.batch = 'many'\n"
    "  return x\n",
  )
  with pytest.raises(errors.UserError, match="x.py:4.*batch"):
    config.load(path)


def test_missing_file_names_the_nearest(tmp_path):
  right = write(tmp_path, "", "quickstart.py")
  with pytest.raises(errors.UserError, match=f"mean '{right}'"):
    config.load(str(tmp_path / "quickstrt.py"))
  with pytest.raises(errors.UserError, match="no config file"):
    config.load(str(tmp_path))


@pytest.mark.parametrize(
  "body, text",
  [
    ("x = 3\n", "get_config"),
    ("def get_config(arg=''):\n  return 3\n", "int"),
    ("def get_config(arg=\n", "SyntaxError"),
    ("def get_config(arg=''):\n  return {'bach': 1}\n", "'config.batch'"),
  ],
)
def test_files_that_are_no_config(tmp_path, body, text):
  with pytest.raises(errors.UserError, match=text) as e:
    config.load(write(tmp_path, body))
  assert "x.py" in str(e.value)


def test_load_passes_the_argument_and_fills_in(tmp_path):
  path = write(
    tmp_path,
    "def get_config(arg=''):\n"
    "  arg = c.parse_arg(arg, res=64, cond=False)\n"
    "  return {'model': {'resolution': arg.res}, 'seed': int(arg.cond),\n"
    "          'penalties': {'r1': {'weight': 2}}}\n",
  )
  loaded = config.load(f"{path}:res=32,cond")
  assert (loaded.model.resolution, loaded.seed) == (32, 1)
  assert loaded.penalties.r1.weight == 2.0
  assert loaded.penalties.r1.final is None
  assert loaded.batch == config.default().batch
  with pytest.raises(AttributeError):
    loaded.bach = 3
  with pytest.raises(errors.UserError, match="mean 'res'") as e:
    config.load(f"{path}:rs=32")
  assert path in str(e.value)


def test_parse_arg():
  parse = lambda arg: config.parse_arg(arg, n=3, f=1.0, b=False, s="", o=None)
  got = parse("n=4, f=2,b,s=a b,o=(1,)".replace("(1,)", "7"))
  assert got.to_dict() == dict(n=4, f=2.0, b=True, s="a b", o=7)
  assert isinstance(got.f, float)
  assert parse("").n == 3 and parse("b=false").b is False
  for wrong in ("n", "n=x", "b=maybe", "m=3", "f="):
    with pytest.raises(errors.UserError):
      parse(wrong)


# ---------------------------------------------------------------- overrides


@pytest.mark.parametrize(
  "flag, value",
  [
    ("batch=16", 16),
    ("optim.g.lr=1e-3", 1e-3),
    ("optim.g.lr=1", 1.0),
    ("data.memory=True", True),
    ("data.memory=false", False),
    ("total=100", "100"),
    ("data.name=tfds", "tfds"),
    ("data.ops=clip(4) | value_range(-1, 1)", "clip(4) | value_range(-1, 1)"),
    ("mesh=(('data', 4), ('model', 2))", (("data", 4), ("model", 2))),
    ("optim.d.l2=[('kernel', 1e-4)]", (("kernel", 1e-4),)),
    ("augment.target=0.6", 0.6),
    ("augment.target=1", 1.0),
    ("ema.rampup=None", None),
    ("penalties.r1.weight=2", 2.0),
    ("penalties.r1.final=0.5", 0.5),
    ("data.options.path=some/where", "some/where"),
    ("data.options.n=3", 3),
    ("data.options.objects=(1, 2)", (1, 2)),
    ("model.generator.width=8", 8),
  ],
)
def test_override(flag, value):
  before = config.default()
  after = config.override(before, ["--config." + flag])
  got = after
  for name in flag.split("=")[0].split("."):
    got = got[name]
  assert got == value and type(got) is type(value)
  assert before.to_dict() == config.default().to_dict()
  assert after.to_dict() != before.to_dict() or flag.endswith("false")


def test_override_of_a_group():
  given = config.override(
    config.default(), ["--config.penalties={'r1': {'weight': 2}}"]
  )
  assert given.penalties.r1.to_dict() == dict(
    weight=2.0, interval=1, final=None
  )
  assert not config.override(given, ["--config.penalties={}"]).penalties


@pytest.mark.parametrize(
  "flag, text",
  [
    ("--config.batch=1.5", "batch=1.5"),
    ("--config.batch=None", "batch"),
    ("--config.data.memory=yes", "bool"),
    ("--config.mesh=3", "tuple"),
    ("--config.mesh=((", "tuple"),
    ("--config.augment.target=high", "float"),
    ("--config.optim=3", "optim.g"),
    ("--config.penalties.r9.weight=1", "'r9'.*Known: 'r1'"),
    ("--config.evals.no_such.n=1", "'no_such'"),
    ("--batch=3", "--config.field=value"),
    ("--config.batch", "--config.field=value"),
  ],
)
def test_bad_overrides(flag, text):
  with pytest.raises(errors.UserError, match=text):
    config.validate(config.override(config.default(), [flag]))


# --------------------------------------------------------------------- json


def test_json_round_trip():
  given = config.default()
  given.mesh = (("data", 2), ("model", -1))
  given.optim.g.l2 = (("kernel$", 1e-4),)
  given.penalties = {"r1": {"weight": 2.0, "final": 0.2}}
  given.data.options = {"objects": (1, 3), "deep": {"a": [1, 2]}}
  given = config.complete(given)
  back = config.from_json(config.to_json(given))
  assert back.to_dict() == given.to_dict()
  assert back.data.options.deep.a == (1, 2)
  assert isinstance(back.optim.g.lr, float)


def test_json_that_is_cut_short():
  text = config.to_json(config.default())
  with pytest.raises(errors.UserError, match="cut short"):
    config.from_json(text[: len(text) // 2])


def test_references_are_resolved():
  given = config.default()
  frames = ml_collections.FieldReference(8)
  given.model.frames = frames
  given.data.options = {"frames": frames}
  assert config.complete(given).to_dict()["data"]["options"]["frames"] == 8


# ---------------------------------------------------------------- durations


@pytest.mark.parametrize(
  "duration, steps, kimg",
  [
    ("500steps", 500, 16.0),
    (500, 500, 16.0),
    ("500", 500, 16.0),
    ("1step", 1, 0.032),
    ("10kimg", 313, 10.0),
    ("0.5kimg", 16, 0.5),
    ("3epochs", 94, 3.0),
    ("1 epoch", 32, 1.0),
    ("1_000steps", 1000, 32.0),
    ("0steps", 0, 0.0),
  ],
)
def test_durations(duration, steps, kimg):
  assert config.steps(duration, 32, 1000) == steps
  assert config.kimg(duration, 32, 1000) == pytest.approx(kimg)


@pytest.mark.parametrize("duration", ["", "3apples", "-1steps", "1.5", True])
def test_bad_durations(duration):
  with pytest.raises(errors.UserError, match="500steps"):
    config.steps(duration, 32)


def test_epochs_need_a_size():
  with pytest.raises(errors.UserError, match="size"):
    config.steps("3epochs", 32)


# ----------------------------------------------------------------- validate


@pytest.mark.parametrize(
  "flag, text",
  [
    ("batch=0", "config.batch is 0"),
    ("batch=30 accumulate=4", "config.accumulate"),
    ("precision=float16", "'bfloat16'"),
    ("parallel=jitt", "mean 'jit'"),
    ("optim.g.schedule=cos", "mean 'cosine'|Known"),
    ("objective=relativstic", "mean 'relativistic'"),
    ("objective=penalties", "config.objective"),
    ("objective=augment", "config.objective"),
    ("model.name=continous", "mean 'continuous'"),
    ("model.name=layers", "config.model.name"),
    ("model.variant=XXL", "config.model.variant"),
    ("data.name=sprite", "mean 'sprites'"),
    ("data.name=order", "config.data.name"),
    ("task.name=generat", "mean 'generate'"),
    ("total=3apples", "config.total"),
    ("ema.halflife=soon", "config.ema.halflife"),
    ("data.ops=clip(16) | flp_lr", "config.data.ops.*'flip_lr'"),
    ("data.eval_ops=first(", "config.data.eval_ops"),
    ("augment.p=1.5", "from 0 to 1"),
    ("model.num_classes=-1", "negative"),
    ("penalties.r1.interval=0", "config.penalties.r1.interval"),
    ("penalties.r1.final=-1", "config.penalties.r1.final is -1.0.*negative"),
    ("penalties.r1={'weight': 0, 'final': 1}", "config.penalties.r1 has"),
    ("reconstruction.chabonier.weight=1", "config.reconstruction: .*'charbo"),
    ("evals.swd.cadence=often", "config.evals.swd.cadence: 'often' is not"),
    ("optim.g.lr=nan", "config.optim.g.lr is nan"),
    ('sharding=(("(", "replicate"),)', "regular"),
    ('mesh=("data",)', "pair"),
    ("optim.d.lr_mult=(3,)", "config.optim.d.lr_mult"),
  ],
)
def test_validate(flag, text):
  flags = [
    "--config." + f
    for f in (flag.split(" ") if "accumulate" in flag else [flag])
  ]
  given = config.override(config.default(), flags)
  with pytest.raises(errors.UserError, match=text):
    config.validate(given)


def test_the_field_channels_is_gone():
  """It had to be 3: configs that say so are read, others are told."""
  tree = json.loads(config.to_json(config.default()))
  assert "channels" not in tree["model"]
  tree["model"]["channels"] = 3
  old = config.from_json(json.dumps(tree))
  assert config.to_json(old) == config.to_json(config.default())
  tree["model"]["channels"] = 1
  with pytest.raises(errors.UserError, match="model.channels.*grey ones"):
    config.from_json(json.dumps(tree))
  with pytest.raises(errors.UserError, match="no field config.model.channels"):
    config.override(config.default(), ["--config.model.channels=1"])


def test_names_are_checked_in_a_file_too():
  with pytest.raises(errors.UserError, match="'r11'.*mean 'r1'"):
    config.validate(config.complete({"penalties": {"r11": {}}}))
  with pytest.raises(errors.UserError, match="'oracl'.*mean 'oracle'"):
    config.validate(config.complete({"evals": {"oracl": {}}}))
  with pytest.raises(errors.UserError, match="evals.oracle"):
    config.complete({"evals": {"oracle": 3}})
