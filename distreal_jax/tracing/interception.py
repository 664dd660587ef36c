"""Calls of a network's modules, seen from outside: the one place that touches how Flax NNX modules run.

A network is not written for this project, so what a sub-network needs at run time is put around the calls of its modules:
the name of the layer, a static count that has to follow the kept filters, exact statistics of a normalisation over channels.
"""

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from distreal_jax.tracing.inner import layer_scope

Call = Callable[..., Any]
Around = Callable[[str, nnx.Module, Call], Call]  # (path, module, its own call) -> what is called instead

# Layers with statistics over channels.
_OVER_CHANNELS = (nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)
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
        for value in vars(module).values():
            if isinstance(value, nnx.Variable) and not isinstance(value, nnx.Param):
                object.__setattr__(value, "__class__", _set_at_once(type(value)))
    return model


@functools.cache
def _set_at_once(original: Any) -> Any:
    """The class of a variable whose new value is not asked where it lies.

    Flax compares that with where the old value lies. While a network is traced neither can say it, and takes the time to
    tell where it came from: a tenth of a trace of ResNet-20 under a profiler.
    """

    def set_item(self: Any, key: Any, value: Any) -> None:
        if key is ... and isinstance(value, jax.core.Tracer) and (value.shape, value.dtype) == (self.shape, self.dtype):
            self.set_value(value)
        else:
            original.__setitem__(self, key, value)

    namespace = {"__setitem__": set_item, "__slots__": (), "is_set_at_once": True}
    return _subclass(original, nnx.Variable, namespace)


def as_they_were(state: Any) -> Any:
    """The state of a network whose calls were intercepted, with variables of its own classes."""
    for _, variable in nnx.to_flat_state(state):
        if "is_set_at_once" in vars(type(variable)):
            object.__setattr__(variable, "__class__", type(variable).__mro__[1])
    return state


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
    return _subclass(original, nnx.Module, intercepted)


def _subclass(original: Any, of_flax: type, namespace: dict[str, Any]) -> Any:
    """A subclass that the original is not told of (`__init_subclass__`), and Flax is: it is made as one of Flax's class."""
    metaclass: Any = type(original)
    orders = [of_flax.__mro__]

    def mro(cls: Any) -> Any:
        return [cls, *orders.pop()] if orders else metaclass.mro(cls)

    made = type(metaclass.__name__, (metaclass,), {"mro": mro})(original.__name__, (original,), namespace)
    made.__bases__ = (original,)  # now with the original's own order
    made.__class__ = metaclass
    for noted in [name for name in vars(made) if name.startswith("_pytree__")]:
        delattr(made, noted)  # what Flax notes of its class is noted of the original
    return made


def _own_call(module: nnx.Module) -> Call:
    """The `__call__` that the module's class had before it was intercepted."""
    classes = type(module).__mro__
    return classes[1 if hasattr(module, "_interception") else 0].__call__


def with_names() -> Around:
    """Names each operation after the layer that it is of, and which of the layer's calls."""
    calls: Counter[str] = Counter()

    def around(path: str, _: nnx.Module, call: Call) -> Call:
        def named(*args: Any, **kwargs: Any) -> Any:
            number = calls[path]
            calls[path] += 1
            with jax.named_scope(layer_scope(path, number)):
                return call(*args, **kwargs)

        return named

    return around


def normalises_channels(module: nnx.Module | None) -> bool:
    """Whether the module is a layer of Flax's with statistics over channels."""
    return isinstance(module, _OVER_CHANNELS)


def _set(module: nnx.Module, **values: Any) -> None:
    """Sets what a module keeps outside its arrays, inside the network's own loops as well, where Flax forbids it."""
    for name, value in values.items():
        object.__setattr__(module, name, value)


def _normalising(module: Any, call: Call) -> Call:
    """Statistics in two passes, and a mask of the user's own with the channels of what it masks.

    Of two channels that are nearly alike, the mean of squares less the square of the mean is rounding alone: sub-networks
    have few channels, and masked and compact execution round differently.
    """
    signature = inspect.signature(_own_call(module))

    def normalised(*args: Any, **kwargs: Any) -> Any:
        _set(module, use_fast_variance=False)
        given = signature.bind(module, *args, **kwargs)
        mask = given.arguments.get("mask")
        if mask is None:
            return call(*args, **kwargs)
        _, x, *_ = given.arguments.values()
        given.arguments["mask"] = mask & ((x == x) | True)
        return call(*given.args[1:], **given.kwargs)

    return normalised


def _followed(module: nnx.Module, call: Call) -> Call:
    """Lets the sizes that a module checks its input by, or shapes its bias by, be those of its arrays."""

    def followed(*args: Any, **kwargs: Any) -> Any:
        if isinstance(module, nnx.MultiHeadAttention):
            _set(module, in_features=module.query.kernel.shape[0])
        elif isinstance(module, nnx.LinearGeneral):
            kept = len(module.batch_axis) + (1 if isinstance(module.axis, int) else len(module.axis))
            _set(module, out_features=tuple(module.kernel.shape[kept:]))
        elif isinstance(module, nnx.Einsum):
            _set(module, kernel_shape=module.kernel.shape)
        elif isinstance(module, nnx.RNN):
            _follow_cell(module.cell)
        return call(*args, **kwargs)

    return followed


def follow_cells(modules: Iterable[nnx.Module]) -> None:
    """Lets the carry that a recurrent cell of the network's would begin with have the size of the cell's arrays."""
    for module in modules:
        _follow_cell(module)


def _follow_cell(cell: nnx.Module) -> None:
    """The cell makes its first carry of that size: an axis of the kernels that the carry is multiplied with."""
    if isinstance(cell, nnx.OptimizedLSTMCell | nnx.GRUCell | nnx.SimpleCell):
        kernel = cell.dense_h.kernel
    elif isinstance(cell, nnx.LSTMCell):
        kernel = cell.hi.kernel
    else:
        return
    if len(kernel.shape) == 2:  # and not of several layers, which are run by a loop
        _set(cell, hidden_features=kernel.shape[0])


def with_counts_of_sub_network(_: str, module: nnx.Module, call: Call) -> Call:
    """Lets a module of Flax run on any number of channels: counts that it keeps outside its arrays follow (an `Around`)."""
    if isinstance(module, nnx.Conv) and module.feature_group_count > 1:
        channels_in_group = module.in_features // module.feature_group_count

        def grouped(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            channels = inputs.shape[-1]
            _set(module, in_features=channels, feature_group_count=channels // channels_in_group)
            return call(inputs, *args, **kwargs)

        return grouped
    if isinstance(module, nnx.GroupNorm):
        single, channels_in_group, normalising = module.num_groups == 1, module.group_size, _normalising(module, call)

        def in_groups(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            size = inputs.shape[-1] if single else channels_in_group
            _set(module, group_size=size, num_groups=inputs.shape[-1] // size)
            return normalising(inputs, *args, **kwargs)

        return in_groups
    if normalises_channels(module):
        return _normalising(module, call)
    return _followed(module, call) if isinstance(module, _FOLLOWING) else call
