"""Running a traced network, whole or as a sub-network, as a pure function of its variables."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from distreal_jax.step.forms import ConvolutionForm, in_form
from distreal_jax.tracing import Kept, TracedNetwork, with_counts_of_sub_network
from distreal_jax.tracing.calling import run_network, without_intermediates
from distreal_jax.tracing.exchange import Exchanges
from distreal_jax.tracing.interception import Around, with_names
from distreal_jax.tracing.masking import exchanged


def split_variables(model: nnx.Module) -> tuple[Any, Any]:
    """A network's parameters, which are trained and averaged, and all its other variables (running statistics, keys)."""
    _, params, others = nnx.split(without_intermediates(model), nnx.Param, ...)  # type: ignore[misc]  # Flax says less than it gives
    return params, others


def in_full_precision(tree: Any) -> Any:
    """The tree with its floats in float32 at least: what is summed, averaged or taken the loss of."""

    def widened(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

    return jax.tree.map(widened, tree)


def forward(
    network: TracedNetwork,
    params: Any,
    others: Any,
    inputs: Any,
    *,
    train: bool,
    convolution: ConvolutionForm,
    kept: Kept | None = None,
    part: Kept | None = None,
    rescaled: Sequence[int | jax.Array] | None = None,
    key: jax.Array | None = None,
    around: Around | None = None,
    others_exchanged: Exchanges | None = None,
) -> tuple[Any, Any]:
    """The network's output for full or sub-network variables.

    Args:
      network: The traced network.
      params: Its parameters, or what `take` or `mask` made of them.
      others: Its other variables, with the same filters.
      inputs: Leaves [batch, ...], as `call_network` takes them.
      train: Whether normalisation uses the statistics of the mini-batch and dropout layers drop.
      convolution: The form in which convolutions are computed.
      kept: In masked execution, the filters that are not at zero: for each group bool [filters] or int [width].
      part: In compact execution, the filters of the whole network that this one has, for each group int [width]: its random
        layers draw what the whole network's would.
      rescaled: In training, the filters that are kept of each group, for what these give to count for all
        (`TracedNetwork.exchanges`). None: it counts as it is.
      key: For the network's own random layers, if it has any.
      around: Anything else to put around the calls of modules.
      others_exchanged: Equations to exchange beside those of masked and compact execution.

    Returns:
      The outputs [batch, ...], floats in float32 at least, and the other variables after the call.
    """
    exchanges = {**network.exchanges(train, kept, part, rescaled), **(others_exchanged or {})}
    arounds = [with_counts_of_sub_network, *([] if around is None else [around]), *([with_names()] if exchanges else [])]

    def run(params: Any, others: Any, inputs: Any) -> tuple[Any, Any]:
        # Fresh variables: a module may update its running statistics only at the trace level where they were made.
        params, others = jax.tree.map(jnp.asarray, (params, others))
        states = (params, others if key is None else _with_keys(others, key))
        outputs, others = run_network(network.graphdef, states, inputs, *arounds, train=train, key=key)
        return in_full_precision(outputs), others

    return in_form(convolution, exchanged(run, exchanges))(params, others, inputs)


def _with_keys(others: Any, key: jax.Array) -> Any:
    """Gives each random stream of the network (of a Dropout layer, say) a key of its own for this call."""
    streams = iter(range(1 << 30))

    def renewed(variable: Any) -> Any:
        if isinstance(variable, nnx.RngKey):
            own = jax.random.fold_in(key, next(streams))
            return variable.replace(jax.random.split(own, variable.shape) if variable.shape else own)  # of stacked layers
        return variable

    return jax.tree.map(renewed, others, is_leaf=lambda node: isinstance(node, nnx.Variable))
