"""What all tests share."""

import os
import signal
import subprocess

import browser
import pytest

# Most of a test's time is compilation, which takes half as long so. What XLA
# rounds otherwise when it optimises, .ci/run tries on the other Python.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# A shell that starts the tests in the background has SIGINT ignored, `nohup`
# SIGHUP, and the processes that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module", autouse=True)
def optimised(request):
  """For modules that say COMPUTES = True: they run longer than they compile."""
  if not getattr(request.module, "COMPUTES", False):
    yield
    return
  import jax

  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, False)
  yield
  jax.config.update(name, before)


@pytest.fixture(scope="session")
def ffmpeg():
  """Runs the program; an independent build of libavfilter."""
  program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
  return lambda *argv: subprocess.run(
    [program, "-v", "error", "-y", *map(str, argv)], check=True
  )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
  if not (browser.CHROMIUM and browser.DRIVER):
    pytest.skip("there is no chromium and chromedriver on the PATH")
  window = browser.Browser(tmp_path_factory.mktemp("profile"))
  yield window
  window.close()
