"""How a network is called: which arguments are its inputs, which say that it trains, and which bring random numbers.

Flax NNX leaves that to each network. Most keep a mode (`model.train()`, `model.eval()`), which is set on all its modules.
Others take it as an argument of `__call__`, as Flax Linen had it, or take their random keys there; those are recognised by
their names and set in both modes.
"""

import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.tracing.interception import Around, Call, as_they_were, follow_cells, intercept_calls

_TRAINS = ("train", "training", "is_training", "is_train", "train_mode")
_EVALUATES = tuple("deterministic use_running_average inference eval is_eval eval_mode evaluate test testing".split())
_KEYS = ("key", "rng", "rng_key", "prng_key", "dropout_key", "dropout_rng")
_LAST_STREAM = (1 << 31) - 1  # streams of a network's own are numbered from 0, those that it is given from here downwards
_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def without_intermediates(model: nnx.Module) -> nnx.Module:
    """The network without the values that an earlier call of it has sown; itself if there are none."""
    if not any(isinstance(node, nnx.Intermediate) for _, node in nnx.iter_graph(model)):
        return model
    model = nnx.clone(model)
    nnx.pop(model, nnx.Intermediate)
    return model


def run_network(
    graphdef: Any, states: Sequence[Any], inputs: Any, *arounds: Around, train: bool, key: jax.Array | None = None
) -> tuple[Any, Any]:
    """A network as a pure function of its variables.

    Args:
      graphdef: Its static structure.
      states: Its variables, or a sub-network's: one pytree or several that make up all of them.
      inputs: As for `call_network`.
      arounds: As for `call_network`.
      train: As for `call_network`.
      key: As for `call_network`, a scalar.

    Returns:
      The outputs, and the variables that are no parameters after the call; those that the call made are left out.

    Raises:
      InputError: As `call_network`.
    """
    model = nnx.merge(graphdef, *states)
    known = {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.Param)))}
    outputs = call_network(model, inputs, *arounds, train=train, key=key)
    return outputs, as_they_were(nnx.state(model, nnx.All(nnx.Not(nnx.Param), lambda path, _: path in known)))


def call_network(model: nnx.Module, inputs: Any, *arounds: Around, train: bool, key: jax.Array | None = None) -> Any:
    """The network's output, in training or in evaluation.

    Args:
      model: A network that belongs to the caller alone (a fresh `nnx.merge`), as for `intercept_calls`.
      inputs: Leaves [batch, ...]. A tuple is passed as several arguments, a dict by the names of arguments if all its keys
        are such; everything else is the first argument.
      arounds: What is put around the calls of its modules, as for `intercept_calls`.
      train: Whether normalisation uses the statistics of the mini-batch and dropout layers drop.
      key: For `rngs` that the network takes as an argument, and for dropout layers that have none of their own.

    Raises:
      InputError: The network takes another argument, which has no default.
    """
    if key is None:
        with jax.ensure_compile_time_eval():
            key = jax.random.key(0)
    positional, named = _arguments(model, inputs, train, key)
    modules = [module for _, module in nnx.iter_modules(model)]
    _set_mode(model, modules, train)
    follow_cells(modules)
    return intercept_calls(model, _with_rngs(key), *arounds)(*positional, **named)


def _arguments(model: nnx.Module, inputs: Any, train: bool, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments of the network's call."""
    _, *parameters = inspect.signature(type(model).__call__).parameters.values()
    names = {parameter.name for parameter in parameters if parameter.kind not in _SEVERAL}
    positional: tuple[Any, ...] = (inputs,)
    named: dict[str, Any] = {}
    if isinstance(inputs, Mapping) and inputs and names.issuperset(inputs):
        positional, named = (), dict(inputs)
    elif type(inputs) is tuple and (
        len(inputs) <= sum(parameter.kind in _POSITIONAL for parameter in parameters)
        or any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    ):
        positional = inputs
    for parameter in parameters[len(positional) :]:
        name, required = parameter.name, parameter.default is inspect.Parameter.empty
        if parameter.kind in _SEVERAL or name in named:
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and not required:
            named[name] = parameter.default  # those after it are counted from the first
        if name in (*_TRAINS, *_EVALUATES) and (
            required or parameter.default is None or isinstance(parameter.default, bool)
        ):
            named[name] = train == (name in _TRAINS)
        elif name == "rngs" and (required or parameter.default is None):
            is_key = "Array" in str(parameter.annotation) and "Rngs" not in str(parameter.annotation)
            named[name] = key if is_key else nnx.Rngs(key)
        elif name in _KEYS and (required or parameter.default is None):
            named[name] = key
        elif required:
            raise InputError(
                f"the network's __call__ requires the argument {name!r}, which is no input and none of those that are set "
                "here, such as train, deterministic, rngs and key; give it a default, give several inputs as a tuple or a "
                f"dict, or wrap the network in an nnx.Module whose __call__(self, x) returns self.network(x, {name}=...)"
            )
    by_place = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.POSITIONAL_ONLY]
    positional = (*positional, *(named.pop(name) for name in by_place if name in named))
    return positional, named


def _set_mode(model: nnx.Module, modules: Iterable[nnx.Module], train: bool) -> None:
    """Sets the mode of all modules, those that keep it under another name than Flax's own as well."""
    if train:
        model.train()
    else:
        model.eval()
    for module in modules:
        if isinstance(module, nnx.MultiHeadAttention) and module.decode is None:
            module.decode = False  # token by token is how a trained network is used
        for name in (*_TRAINS, "inference", "is_eval", "eval_mode"):
            if isinstance(vars(module).get(name), bool):
                setattr(module, name, train == (name in _TRAINS))


def _with_rngs(key: Any) -> Around:
    """Gives random numbers to dropout layers that have none of their own and are called without, each time others."""
    calls = itertools.count(_LAST_STREAM, -1)

    def around(_: str, module: nnx.Module, call: Call) -> Call:
        if not isinstance(module, nnx.Dropout | nnx.MultiHeadAttention) or module.rngs is not None:
            return call

        def with_rngs(*args: Any, rngs: Any = None, **kwargs: Any) -> Any:
            return call(*args, rngs=nnx.Rngs(_numbered(key, next(calls))) if rngs is None else rngs, **kwargs)

        return with_rngs

    return around


def _numbered(key: Any, number: int) -> Any:
    """The key of that number; while a network is traced it is a constant and adds nothing to the trace."""
    if isinstance(key, jax.core.Tracer):
        return jax.random.fold_in(key, number)
    with jax.ensure_compile_time_eval():
        return jax.random.fold_in(key, number)
