"""The fused operators, one module each.

Importing an operator's module loads the compiled libraries, which hold its schema and kernels, and registers
its fake (meta) kernel and autograd. The functions here are the public way to call
``torch.ops.infogan_fast.*``.
"""

from __future__ import annotations

from infogan_fast.ops.adam_update import adam_update
from infogan_fast.ops.agreement import Agreed, Agreement, Distance, agreement
from infogan_fast.ops.batch_norm_act import RunningStatistics, batch_norm_act
from infogan_fast.ops.gather_images import Gathered, gather_images
from infogan_fast.ops.image_layers import image_conv, image_conv_transpose
from infogan_fast.ops.infogan_loss import InfoGANLoss, LossWeights, infogan_loss
from infogan_fast.ops.rng_state import rng_state
from infogan_fast.ops.sample_latents import Latents, sample_latents
from infogan_fast.ops.transform_images import Transformed, transform_images

__all__ = [
    "Agreed",
    "Agreement",
    "Distance",
    "Gathered",
    "InfoGANLoss",
    "Latents",
    "LossWeights",
    "RunningStatistics",
    "Transformed",
    "adam_update",
    "agreement",
    "batch_norm_act",
    "gather_images",
    "image_conv",
    "image_conv_transpose",
    "infogan_loss",
    "rng_state",
    "sample_latents",
    "transform_images",
]
