"""The form in which the operations of a network are computed: XLA's own, or one that is faster for many small clients.

A CPU trains one client after the other, and there XLA's own convolutions are the fastest in the one layout that they have
fast code for: that is the *folded* form (`distreal_jax.step.convolution`). XLA's backward pass of a max-pooling
(select-and-scatter) is slow on a CPU as well: 4.6 ms against 0.5 ms for [10, 28, 28, 64] on one core. Clients that train
side by side have different weights, and XLA turns a convolution over per-client kernels into a grouped convolution, for
which a CPU has no fast code; as *patches* times matrix it is a batched matrix product. On a GPU as well that is
faster than grouped convolutions, by 1.3 times for ten clients with ResNet-20. On a TPU patches cost memory: by its compiler,
a step of 16 clients of the CIFAR CNN at half of its filters takes 890 MiB of temporaries with them and 571 without
(docs/benchmarks.md), so it takes the *library*'s convolutions as they are.
`experiments/benchmark.py` measures the forms.

The exchange is made in the jaxpr, so it does not matter how a network calls these operations.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.extend import core

from distreal_jax.step.convolution import Geometry, convolution, pointwise_convolution
from distreal_jax.step.grouped import depthwise_convolution, grouped_convolution
from distreal_jax.step.sums import sum_by_rows
from distreal_jax.tracing.exchange import evaluated

ConvolutionForm = Literal["platform", "folded", "patches", "library"]
_MOST_GROUPS = 32  # chosen by us: of several channels each; every group is a convolution that is compiled

Exchanges = dict[str, Callable[..., jax.Array | None]]  # by primitive; what gives None stays as it is
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_form(form: ConvolutionForm, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The same function with its convolutions and poolings in that form.

    Args:
      form: `library` leaves the function as it is; `folded` and `patches` exchange what they can; `platform` is `folded` on
        a CPU and `library` on an accelerator; for clients side by side see `LocalStep.for_many`.
      function: A function of pytrees of arrays.
    """
    return _exchanged(function, _EXCHANGES[_of_platform(form)])


def gradient_in_form(form: ConvolutionForm, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The same function, which has taken a derivative of one in that form, with its sums in that form as well.

    Most sums of a normalisation's derivative are made by differentiation, so they are exchanged after it.
    """
    return _exchanged(function, _EXCHANGES_OF_GRADIENTS[_of_platform(form)])


def _of_platform(form: ConvolutionForm) -> ConvolutionForm:
    if form != "platform":
        return form
    return "folded" if jax.default_backend() == "cpu" else "library"


def _exchanged(function: Callable[Parameters, Result], exchanges: Exchanges) -> Callable[Parameters, Result]:
    if not exchanges:
        return function

    @functools.wraps(function)
    def exchanged(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        closed, shape = jax.make_jaxpr(lambda args, kwargs: function(*args, **kwargs), return_shape=True)(args, kwargs)
        outputs = _run(exchanges, closed.jaxpr, closed.consts, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return exchanged


def _run(exchanges: Exchanges, jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr, inner calls as well, exchanging operations on the way."""
    known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        operands = [value_of(atom) for atom in equation.invars]
        primitive, scope = equation.primitive, str(equation.source_info.name_stack)
        exchange = exchanges.get(primitive.name)
        # A profile goes on calling the operation what it is called in the code.
        with jax.named_scope(scope) if scope else contextlib.nullcontext():
            result = None if exchange is None else exchange(*operands, **equation.params)
            if result is not None:
                results = [result]
            elif primitive.name in ("jit", "pjit"):
                inner = equation.params["jaxpr"]
                results = _run(exchanges, inner.jaxpr, inner.consts, operands)
            else:
                results = evaluated(jaxpr, equation, operands)
        known.update(zip(equation.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def folded_convolution(image: jax.Array, kernel: jax.Array, **parameters: Any) -> jax.Array | None:
    """A convolution as `distreal_jax.step.convolution` computes it; one of windows of 1x1 as a matrix product.

    The parameters are those of the primitive `conv_general_dilated`.

    Returns:
      [batch, out spatial ..., filters]; None for a dilated image, another layout, another type than float32, negative
      padding or more than `_MOST_GROUPS` groups of several channels.
    """
    spatial = tuple(range(1, image.ndim - 1))
    numbers, groups = parameters["dimension_numbers"], parameters["feature_group_count"]
    channels_last = (0, image.ndim - 1, *spatial)
    layout = (channels_last, (image.ndim - 1, image.ndim - 2, *range(image.ndim - 2)), channels_last)
    geometry = Geometry(
        tuple(parameters["window_strides"]),
        tuple((low, high) for low, high in parameters["padding"]),
        tuple(parameters["rhs_dilation"]),
    )
    single = {image.dtype, kernel.dtype, jnp.dtype(parameters["preferred_element_type"] or jnp.float32)} == {
        jnp.dtype("float32")
    }
    if (
        (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != layout
        or not 3 <= image.ndim <= 5
        or not single
        or parameters["batch_group_count"] != 1
        or set(parameters["lhs_dilation"]) != {1}
        or min(min(sides) for sides in geometry.padding) < 0
        or 0 in (image.size, kernel.size)
    ):
        return None
    if groups == 1:
        in_one_pixel = set(kernel.shape[:-2]) == {1}
        return (pointwise_convolution if in_one_pixel else convolution)(image, kernel, geometry)
    if kernel.shape[-2] == 1:
        return depthwise_convolution(image, kernel, geometry)
    return grouped_convolution(image, kernel, geometry, groups) if groups <= _MOST_GROUPS else None


def patches_times_matrix(
    image: jax.Array,
    kernel: jax.Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    preferred_element_type: Any,
    **_: Any,
) -> jax.Array | None:
    """A convolution of [batch, height, width, channels] with [height, width, channels, filters] as one matrix product.

    The parameters are those of the primitive `conv_general_dilated`.

    Returns:
      [batch, out height, out width, filters]; None for a grouped or dilated convolution or another layout.
    """
    layout = (dimension_numbers.lhs_spec, dimension_numbers.rhs_spec, dimension_numbers.out_spec)
    plain = feature_group_count == batch_group_count == 1 and set(lhs_dilation) | set(rhs_dilation) <= {1}
    if layout != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) or not plain:
        return None
    window = kernel.shape[:2]
    padded = jnp.pad(image, ((0, 0), *padding, (0, 0))) if any(map(any, padding)) else image
    out = [(padded.shape[1 + axis] - window[axis]) // window_strides[axis] + 1 for axis in (0, 1)]
    slices = [
        _positions(padded, (row, column), out, window_strides) for row in range(window[0]) for column in range(window[1])
    ]
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)
    product = jnp.matmul(
        patches.reshape(-1, patches.shape[-1]),
        kernel.reshape(-1, kernel.shape[-1]),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return product.reshape(*patches.shape[:-1], kernel.shape[-1])


def _positions(image: jax.Array, offset: tuple[int, int], out: Sequence[int], strides: Sequence[int]) -> jax.Array:
    """Every stride-th position of an image from an offset on, `out` of them along height and width."""
    rows, columns = (
        slice(begin, begin + (count - 1) * stride + 1, stride)
        for begin, count, stride in zip(offset, out, strides, strict=True)
    )
    return image[:, rows, columns]


def windows_maximum(
    image: jax.Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> jax.Array | None:
    """Max-pooling of [batch, height, width, channels] by windows that do not overlap; the first maximum has the gradient.

    The parameters are those of the primitive `reduce_window_max`.

    Returns:
      [batch, out height, out width, channels]; None for overlapping, padded or dilated windows or another layout.
    """
    tiles = tuple(window_dimensions) == tuple(window_strides) and not any(map(any, padding))
    dilated = set(base_dilation) | set(window_dilation) > {1}
    if image.ndim != 4 or not tiles or dilated or window_dimensions[0] != 1 or window_dimensions[3] != 1:
        return None
    return _maximum(image, (window_dimensions[1], window_dimensions[2]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _maximum(image: jax.Array, window: tuple[int, int]) -> jax.Array:
    return functools.reduce(jnp.maximum, _tiles(image, window))


def _tiles(image: jax.Array, window: tuple[int, int]) -> list[jax.Array]:
    out = [image.shape[1 + axis] // window[axis] for axis in (0, 1)]
    return [_positions(image, (row, column), out, window) for row in range(window[0]) for column in range(window[1])]


def _maximum_forward(image: jax.Array, window: tuple[int, int]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    maximum = _maximum(image, window)
    return maximum, (image, maximum)


def _maximum_backward(window: tuple[int, int], saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array]:
    image, maximum = saved
    given = jnp.zeros(maximum.shape, dtype=bool)
    parts = []
    for tile in _tiles(image, window):
        here = (tile == maximum) & ~given
        given = given | here
        parts.append(jnp.where(here, cotangent, 0))
    batch, height, width, channels = maximum.shape
    table = jnp.stack(parts).reshape(*window, batch, height, width, channels)
    gradient = table.transpose(2, 3, 0, 4, 1, 5).reshape(batch, height * window[0], width * window[1], channels)
    cut = [image.shape[1 + axis] - gradient.shape[1 + axis] for axis in (0, 1)]
    return (jnp.pad(gradient, ((0, 0), (0, cut[0]), (0, cut[1]), (0, 0))),)


_maximum.defvjp(_maximum_forward, _maximum_backward)

_EXCHANGES: dict[ConvolutionForm, Exchanges] = {
    "folded": {"conv_general_dilated": folded_convolution, "reduce_window_max": windows_maximum},
    "patches": {"conv_general_dilated": patches_times_matrix, "reduce_window_max": windows_maximum},
    "library": {},
}
_EXCHANGES_OF_GRADIENTS: dict[ConvolutionForm, Exchanges] = {
    "folded": {"reduce_sum": sum_by_rows},
    "patches": {},
    "library": {},
}
