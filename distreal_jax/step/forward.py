"""Running a traced network, whole or as a sub-network, as a pure function of its variables."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from distreal_jax.step.forms import ConvolutionForm, in_form
from distreal_jax.tracing import Kept, TracedNetwork, with_counts_of_sub_network
from distreal_jax.tracing.calling import run_network, without_intermediates
from distreal_jax.tracing.exchange import Exchanges
from distreal_jax.tracing.form import form_of
from distreal_jax.tracing.interception import Around, with_names
from distreal_jax.tracing.masking import exchanged
from distreal_jax.tracing.sub_networks import leaf_path


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
        (`TracedNetwork.factors`). None: it counts as it is.
      key: For the network's own random layers, if it has any.
      around: Anything else to put around the calls of modules.
      others_exchanged: Equations to exchange beside those of masked and compact execution.

    Returns:
      The outputs [batch, ...], floats in float32 at least, and the other variables after the call.
    """
    exchanges = {**network.exchanges(train, None, part), **(others_exchanged or {})}
    factors = network.factors(rescaled) if train and rescaled is not None else []
    masked = kept is not None
    acts = bool(network.exchanged_by_form(train, masked, factors))
    named = [with_names()] if exchanges or acts else []
    arounds = [with_counts_of_sub_network, *([] if around is None else [around]), *named]

    def run(params: Any, others: Any, inputs: Any) -> tuple[Any, Any]:
        # Fresh variables: a module may update its running statistics only at the trace level where they were made.
        params, others = jax.tree.map(jnp.asarray, (params, others))
        states = (params, others if key is None else _with_keys(others, key))
        outputs, others = run_network(network.graphdef, states, inputs, *arounds, train=train, key=key)
        return in_full_precision(outputs), others

    def exchanges_of(closed: core.ClosedJaxpr, params: Any, others: Any, inputs: Any) -> Exchanges:
        if not acts:
            return exchanges
        paths = [leaf_path(key) for tree in (params, others) for key, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
        variables = nnx.merge_state(params, others)
        form = form_of(closed, paths)
        there, groups = network.in_form(form, variables, inputs, train=train, masked=masked, factors=factors)
        kept_there = None if kept is None else [kept[group] for group in groups]
        of_there = [factors[group] for group in groups] if factors else []
        return {**exchanges, **there.exchanges(train, kept_there, factors=of_there)}

    return in_form(convolution, exchanged(run, exchanges_of) if named else run)(params, others, inputs)


def _with_keys(others: Any, key: jax.Array) -> Any:
    """Gives each random stream of the network (of a Dropout layer, say) a key of its own for this call."""
    streams = iter(range(1 << 30))

    def renewed(variable: Any) -> Any:
        if isinstance(variable, nnx.RngKey):
            own = jax.random.fold_in(key, next(streams))
            return variable.replace(jax.random.split(own, variable.shape) if variable.shape else own)  # of stacked layers
        return variable

    return jax.tree.map(renewed, others, is_leaf=lambda node: isinstance(node, nnx.Variable))
