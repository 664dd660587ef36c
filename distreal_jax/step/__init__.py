"""A device's training step: masked (the reference) and compact (what is dropped is not computed)."""

from distreal_jax.step.convolution import ConvolutionForm
from distreal_jax.step.forward import forward, split_variables
from distreal_jax.step.local import Batch, Learner, LocalStep
from distreal_jax.step.masked import MaskedNetwork

__all__ = ["Batch", "ConvolutionForm", "Learner", "LocalStep", "MaskedNetwork", "forward", "split_variables"]
