"""Calls of a network's modules, seen from outside: the one place that touches how Flax NNX modules run.

A network is not written for this project, so what a sub-network needs at run time is put around the calls of its modules:
the name of the layer while tracing, a static count that has to follow the kept filters, the mask of a normalisation over
channels, the form in which a convolution is computed.
"""

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Call = Callable[..., Any]
Around = Callable[[str, nnx.Module, Call], Call]  # (path, module, its own call) -> what is called instead
Occasion = tuple[str, int]  # (path of a module, which of its calls in one call of the network)

# Layers with statistics over channels that can be told which of these count.
_MASKABLE = (nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)

_FOLLOWING = (nnx.MultiHeadAttention, nnx.LinearGeneral, nnx.Einsum, nnx.RNN)


def intercept_calls(model: nnx.Module, *arounds: Around) -> nnx.Module:
    """Wraps `__call__` of every module of `model`, in place and once, and returns `model`.

    What the modules would sow, to be looked at later, they don't keep: nobody looks, and it would be one variable more.

    Args:
      model: A network that belongs to the caller alone (a fresh `nnx.merge`): its modules change their class.
      arounds: Each is called, whenever a module is, with its path ("" for the network itself, "block.0.conv" inside), the
        module and its bound `__call__`, and returns the function that is called instead; the last one is outermost.
    """
    for path, module in list(nnx.iter_modules(model)):
        original = type(module)
        object.__setattr__(module, "_interception", _Interception(path_name(path), arounds))
        object.__setattr__(module, "__class__", _calling_intercepted(original))
    return model


@dataclasses.dataclass(frozen=True)
class _Interception:
    path: str
    arounds: tuple[Around, ...]


def path_name(path: tuple[Any, ...]) -> str:
    """The dotted name of a path of keys: ("blocks", 0, "conv") is "blocks.0.conv"."""
    return ".".join(str(part) for part in path)


@functools.cache
def _calling_intercepted(original: type) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Wrapped when called: a `nnx.jit` or `nnx.remat` of the network's own calls a copy of the module.
        called: Call = functools.partial(original.__call__, self)
        for around in self._interception.arounds:
            called = around(self._interception.path, self, called)
        return called(*args, **kwargs)

    def sow(*_: Any, **__: Any) -> bool:
        return False

    intercepted = {"sow": sow, "__doc__": original.__doc__}
    if hasattr(original, "__call__"):  # noqa: B004  # of its instances
        intercepted["__call__"] = call
    return type(original.__name__, (original,), intercepted)


def _own_call(module: nnx.Module) -> Call:
    """The `__call__` that the module's class had before it was intercepted."""
    classes = type(module).__mro__
    return classes[1 if hasattr(module, "_interception") else 0].__call__


def takes_mask(module: nnx.Module | None) -> bool:
    """Whether the module takes statistics over channels and can be told which of these count."""
    return isinstance(module, _MASKABLE) and "mask" in inspect.signature(_own_call(module)).parameters


def with_statistics_masks(masks: Mapping[Occasion, jax.Array]) -> Around:
    """Tells layers with statistics over channels which channels count.

    Args:
      masks: For a call of such a layer, bool [channels].
    """
    calls: Counter[str] = Counter()

    def around(path: str, module: nnx.Module, call: Call) -> Call:
        def masked(*args: Any, **kwargs: Any) -> Any:
            occasion = (path, calls[path])
            calls[path] += 1
            if occasion not in masks:
                return call(*args, **kwargs)
            given = inspect.signature(_own_call(module)).bind(module, *args, **kwargs)
            _, x, *_ = given.arguments.values()
            channels = jnp.broadcast_to(masks[occasion].reshape((1,) * (x.ndim - 1) + (-1,)), x.shape)
            own = given.arguments.get("mask")
            given.arguments["mask"] = channels if own is None else channels & own
            return call(*given.args[1:], **given.kwargs)

        return masked if any(path == masked_path for masked_path, _ in masks) else call

    return around


def _followed(module: nnx.Module, call: Call) -> Call:
    """Lets the sizes that a module checks its input by, or shapes its bias by, be those of its arrays."""

    def followed(*args: Any, **kwargs: Any) -> Any:
        if isinstance(module, nnx.MultiHeadAttention):
            module.in_features = module.query.kernel.shape[0]
        elif isinstance(module, nnx.LinearGeneral):
            kept = len(module.batch_axis) + (1 if isinstance(module.axis, int) else len(module.axis))
            module.out_features = tuple(module.kernel.shape[kept:])
        elif isinstance(module, nnx.Einsum):
            module.kernel_shape = module.kernel.shape
        elif isinstance(module, nnx.RNN):
            _follow_cell(module.cell)
        return call(*args, **kwargs)

    return followed


def _follow_cell(cell: nnx.Module) -> None:
    """The cell makes its first carry of that size: an axis of the kernels that the carry is multiplied with."""
    if isinstance(cell, nnx.OptimizedLSTMCell | nnx.GRUCell | nnx.SimpleCell):
        cell.hidden_features = cell.dense_h.kernel.shape[0]
    elif isinstance(cell, nnx.LSTMCell):
        cell.hidden_features = cell.hi.kernel.shape[0]


def with_counts_of_sub_network(_: str, module: nnx.Module, call: Call) -> Call:
    """Lets the counts that a module keeps outside its arrays follow the number of channels that it is given."""
    if isinstance(module, nnx.Conv) and module.feature_group_count > 1:
        channels_in_group = module.in_features // module.feature_group_count

        def grouped(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            module.in_features = inputs.shape[-1]
            module.feature_group_count = inputs.shape[-1] // channels_in_group
            return call(inputs, *args, **kwargs)

        return grouped
    if isinstance(module, nnx.GroupNorm):
        single, channels_in_group = module.num_groups == 1, module.group_size

        def normalised(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            module.group_size = inputs.shape[-1] if single else channels_in_group
            module.num_groups = inputs.shape[-1] // module.group_size
            return call(inputs, *args, **kwargs)

        return normalised
    return _followed(module, call) if isinstance(module, _FOLLOWING) else call
