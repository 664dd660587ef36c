"""Claims about convolutions and sums in other forms: each is XLA's own to rounding, as are its gradients.

XLA's gradients are taken of images that are padded beforehand: where windows lie in the padding alone, XLA's own gradient
reads beyond the image (jax 0.10.2).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from distreal_jax.step.convolution import columns_at_once
from distreal_jax.step.forms import gradient_in_form, in_form

quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@st.composite
def convolutions(draw):
    """Sizes of one to three axes, of which the last is often one whose columns are computed several at once."""
    axes = draw(st.integers(1, 3))
    each = lambda low, high: [draw(st.integers(low, high)) for _ in range(axes)]  # noqa: E731
    sides = each(1, 7)
    if draw(st.booleans()):
        sides[-1] = draw(st.sampled_from([8, 16, 24]))
    window, dilation = each(1, 4), each(1, 2)
    padding = [(draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(axes)]
    reached = [between * (taps - 1) + 1 for taps, between in zip(window, dilation, strict=True)]
    sides = [max(side, far - sum(pair)) for side, far, pair in zip(sides, reached, padding, strict=True)]
    groups = draw(st.sampled_from([1, 1, 1, 2, 5]))
    channels = groups * draw(st.integers(1, 5)) if draw(st.booleans()) else groups
    return {
        "batch": draw(st.integers(1, 3)),
        "sides": sides,
        "window": window,
        "channels": channels,
        "filters": groups * draw(st.integers(1, 9)),
        "groups": groups,
        "strides": each(1, 3),
        "padding": padding,
        "dilation": dilation,
        "seed": draw(st.integers(0, 100)),
    }


def convolve(image, kernel, case, padding):
    letters = "XYZ"[: image.ndim - 2]
    return lax.conv_general_dilated(
        image,
        kernel,
        case["strides"],
        padding,
        rhs_dilation=case["dilation"],
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=case["groups"],
    )


@given(case=convolutions())
@settings(max_examples=40)
def test_a_convolution_in_any_form_is_a_convolution(case):
    generator = np.random.default_rng(case["seed"])
    image = jnp.asarray(generator.normal(size=(case["batch"], *case["sides"], case["channels"])), jnp.float32)
    shape = (*case["window"], case["channels"] // case["groups"], case["filters"])
    kernel = jnp.asarray(generator.normal(size=shape), jnp.float32)
    padded = lambda image, kernel: convolve(  # noqa: E731
        jnp.pad(image, ((0, 0), *case["padding"], (0, 0))), kernel, case, "VALID"
    )
    in_forms = [
        in_form(form, lambda image, kernel: convolve(image, kernel, case, case["padding"])) for form in ("folded", "patches")
    ]

    @quickly
    def in_every_form(image, kernel):
        outputs = []
        for function in (padded, *in_forms):
            out, back = jax.vjp(function, image, kernel)
            outputs.append((out, *back(jax.random.normal(jax.random.key(case["seed"]), out.shape))))
        return outputs

    expected, *others = in_every_form(image, kernel)
    for got in others:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), got, expected)


def test_its_gradients_are_the_slopes():
    case = {"strides": [2, 1], "dilation": [1, 1], "groups": 1}
    folded = in_form("folded", lambda image, kernel: convolve(image, kernel, case, [(1, 1), (1, 2)]))
    image, kernel = jax.random.normal(jax.random.key(0), (2, 5, 7, 3)), jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    check_grads(folded, (image, kernel), order=1, modes=["rev"], rtol=1e-2)


@pytest.mark.parametrize(("channels", "filters", "columns"), [(16, 16, 32), (8, 8, 32), (4, 4, 32), (3, 16, 32), (1, 2, 28)])
def test_columns_computed_at_once_divide_the_columns(channels, filters, columns):
    assert columns % columns_at_once(channels, filters, columns) == 0


def test_enough_filters_or_an_odd_number_of_columns_are_computed_one_at_a_time():
    assert columns_at_once(16, 32, 32) == columns_at_once(16, 4, 31) == columns_at_once(32, 4, 32) == 1


def test_the_columns_are_never_computed_all_at_once():
    assert columns_at_once(12, 3, 8) == 4


@pytest.mark.parametrize(
    "build",
    [
        lambda: nnx.Conv(4, 6, (3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
        lambda: nnx.Conv(4, 6, (3, 3), padding="CIRCULAR", rngs=nnx.Rngs(0)),
        lambda: nnx.ConvTranspose(4, 6, (3, 3), strides=2, rngs=nnx.Rngs(0)),
    ],
)
@pytest.mark.parametrize("form", ["folded", "patches"])
def test_other_types_and_layouts_are_as_they_were(build, form):
    layer, image = build(), jax.random.normal(jax.random.key(0), (2, 6, 8, 4))
    np.testing.assert_allclose(in_form(form, layer)(image), layer(image), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("form", ["folded", "patches"])
def test_an_empty_batch_stays_empty_and_moves_no_weight(form):
    layer = nnx.Conv(4, 6, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    out, back = jax.vjp(in_form(form, layer), jnp.zeros((0, 6, 8, 4)))
    assert out.shape == (0, 6, 8, 6)
    assert back(out)[0].shape == (0, 6, 8, 4)
    kernel = layer.kernel[...]
    convolve = in_form(form, lambda kernel: lax.conv(jnp.zeros((0, 4, 6, 8)), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME"))
    assert not jax.grad(lambda kernel: convolve(kernel).sum())(kernel).any()


@pytest.mark.parametrize("shape", [(20, 16, 16, 4), (3, 7, 9, 24), (5, 7, 9, 16), (2, 33, 64, 3), (4096, 1)])
@pytest.mark.parametrize("type_", [jnp.float32, jnp.bfloat16])
def test_a_sum_by_rows_is_a_sum(shape, type_):
    images = jax.random.normal(jax.random.key(0), shape).astype(type_)
    over_positions = lambda images: images.sum(axis=tuple(range(images.ndim - 1)))  # noqa: E731
    got = gradient_in_form("folded", over_positions)(images)
    assert got.dtype == type_
    np.testing.assert_allclose(got, over_positions(images), rtol=1e-4, atol=1e-3)


def test_sums_over_other_axes_are_as_they_were():
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 4))
    for axes in ((1, 2), (3,), (0, 1, 2, 3)):
        sums = lambda images, axes=axes: images.sum(axes)  # noqa: E731
        np.testing.assert_array_equal(gradient_in_form("folded", sums)(images), sums(images))
