"""Train, measure and use GANs on video, in JAX and Flax."""

__version__ = "0.1.0"
