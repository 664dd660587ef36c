"""Claims about convolutions in the form of a CPU: each is XLA's own to rounding, and its gradients are those of XLA's own.

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
from distreal_jax.step.forms import in_form

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
def test_a_folded_convolution_is_a_convolution(case):
    generator = np.random.default_rng(case["seed"])
    image = jnp.asarray(generator.normal(size=(case["batch"], *case["sides"], case["channels"])), jnp.float32)
    shape = (*case["window"], case["channels"] // case["groups"], case["filters"])
    kernel = jnp.asarray(generator.normal(size=shape), jnp.float32)
    padded = lambda image, kernel: convolve(  # noqa: E731
        jnp.pad(image, ((0, 0), *case["padding"], (0, 0))), kernel, case, "VALID"
    )
    folded = in_form("folded", lambda image, kernel: convolve(image, kernel, case, case["padding"]))

    @quickly
    def both(image, kernel):
        outputs = []
        for function in (padded, folded):
            out, back = jax.vjp(function, image, kernel)
            outputs.append((out, *back(jax.random.normal(jax.random.key(case["seed"]), out.shape))))
        return outputs

    for got, expected in zip(*reversed(both(image, kernel)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize(
    "build",
    [
        lambda: nnx.Conv(4, 6, (3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
        lambda: nnx.Conv(4, 6, (3, 3), padding="CIRCULAR", rngs=nnx.Rngs(0)),
        lambda: nnx.ConvTranspose(4, 6, (3, 3), strides=2, rngs=nnx.Rngs(0)),
    ],
)
def test_what_has_no_folded_form_is_as_it_was(build):
    layer, image = build(), jax.random.normal(jax.random.key(0), (2, 6, 8, 4))
    np.testing.assert_allclose(in_form("folded", layer)(image), layer(image), rtol=1e-2, atol=1e-2)


def test_an_empty_batch_stays_empty():
    layer = nnx.Conv(4, 6, (3, 3), rngs=nnx.Rngs(0))
    assert in_form("folded", layer)(jnp.zeros((0, 6, 8, 4))).shape == (0, 6, 8, 6)
