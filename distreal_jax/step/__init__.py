"""A device's training step: masked (the reference) and compact (what is dropped is not computed)."""

from distreal_jax.step.class_rows import class_axes
from distreal_jax.step.examples import Batch, Examples
from distreal_jax.step.forms import ConvolutionForm
from distreal_jax.step.forward import forward, in_full_precision, split_variables
from distreal_jax.step.local import ALL_TRAINED, Knobs, Learner, LocalStep
from distreal_jax.step.masked import MaskedNetwork
from distreal_jax.step.task import CLASSIFICATION, Task, classification

__all__ = [
    "ALL_TRAINED",
    "CLASSIFICATION",
    "Batch",
    "ConvolutionForm",
    "Examples",
    "Knobs",
    "Learner",
    "LocalStep",
    "MaskedNetwork",
    "Task",
    "class_axes",
    "classification",
    "forward",
    "in_full_precision",
    "split_variables",
]
