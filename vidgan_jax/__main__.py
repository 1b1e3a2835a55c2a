"""`python -m vidgan_jax VERB ...` is `vidgan VERB ...`."""

import sys

from vidgan_jax import cli

if __name__ == "__main__":
  sys.exit(cli.main())
