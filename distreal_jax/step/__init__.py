"""A device's training step: masked (the reference) and compact (what is dropped is not computed)."""

from distreal_jax.step.forms import ConvolutionForm
from distreal_jax.step.forward import forward, split_variables
from distreal_jax.step.images import Batch, Images
from distreal_jax.step.local import Learner, LocalStep, cross_entropy
from distreal_jax.step.masked import MaskedNetwork

__all__ = [
    "Batch",
    "ConvolutionForm",
    "Images",
    "Learner",
    "LocalStep",
    "MaskedNetwork",
    "cross_entropy",
    "forward",
    "split_variables",
]
