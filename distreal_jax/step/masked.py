"""A Flax module that applies filter masks to a network it wraps."""

from typing import Any

import jax
from flax import nnx

from distreal_jax.step.forms import ConvolutionForm
from distreal_jax.step.forward import forward, split_variables
from distreal_jax.tracing import Kept, TracedNetwork
from distreal_jax.tracing.layout import boolean_masks


class MaskedNetwork(nnx.Module):
    """A network whose dropped filters are zero, by masks that are data: one `nnx.jit` serves every dropout vector.

    What it computes equals the sub-network's output. Running statistics of dropped filters stay as they are.
    """

    def __init__(self, model: nnx.Module, network: TracedNetwork, convolution: ConvolutionForm = "library"):
        """Wraps a network.

        Args:
          model: The network; its variables become this module's.
          network: What `trace_network(model, ...)` gave.
          convolution: The form in which convolutions are computed.
        """
        self.model = model
        self.network = nnx.static(network)
        self.convolution = convolution
        self.deterministic = False  # what `nnx.Module.train` and `eval` set

    def __call__(self, inputs: Any, kept: Kept, key: jax.Array | None = None) -> Any:
        """The outputs of the sub-network that keeps the given filters.

        Args:
          inputs: [batch, ...], as `call_network` takes them.
          kept: For each group bool [filters] or int [width].
          key: For random layers; None: those of the network's own streams, and the same each time for layers without.

        Returns:
          [batch, ...], floats in float32 at least.
        """
        masks = boolean_masks(kept, self.network.full_widths)
        params, others = split_variables(self.model)
        outputs, after = forward(
            self.network,
            self.network.mask(params, masks),
            self.network.mask(others, masks),
            inputs,
            train=not self.deterministic,
            convolution=self.convolution,
            kept=masks,
            key=key,
        )
        nnx.update(self.model, self.network.select(masks, after, others))
        return outputs
