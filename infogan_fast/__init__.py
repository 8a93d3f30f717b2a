"""InfoGAN training, fast: interpretable latent codes out of unlabelled images."""

from infogan_fast.latents import LatentSpec

__version__ = "0.1.0"

__all__ = ["LatentSpec", "__version__"]
