"""Calls of a network's modules, seen from outside: the one place that touches how Flax NNX modules run.

A network is not written for this project, so what a sub-network needs at run time is put around the calls of its modules:
the name of the layer while tracing, a static count that has to follow the kept filters, the mask of a normalisation over
channels, the form in which a convolution is computed.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

Call = Callable[..., Any]
Around = Callable[[str, nnx.Module, Call], Call]  # (path, module, its own call) -> what is called instead


def intercept_calls(model: nnx.Module, *arounds: Around) -> nnx.Module:
    """Wraps `__call__` of every module of `model`, in place and once, and returns `model`.

    Args:
      model: A network that belongs to the caller alone (a fresh `nnx.merge`): its modules change their class.
      arounds: Each is called, whenever a module is, with its path ("" for the network itself, "block.0.conv" inside), the
        module and its bound `__call__`, and returns the function that is called instead; the last one is outermost.
    """
    for path, module in list(nnx.iter_modules(model)):
        original = type(module)
        if callable(module):
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

    return type(original.__name__, (original,), {"__call__": call, "__doc__": original.__doc__})


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
    return call
