"""A trace proves itself: smaller networks are run abstractly, and then computed, against what the trace says of them.

The rules of the primitives say which filters go together. Whether they are right about a network is seen by running it: as
a smaller network (compact), and whole with the dropped filters at zero (masked). Outputs, gradients and the statistics that
normalisations keep have to be the same, in training and in evaluation, whichever filters are kept, few or many.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.extend import core

from distreal_jax.errors import InputError
from distreal_jax.tracing.arithmetic import compute
from distreal_jax.tracing.derivatives import NoGradientError, derivatives_in
from distreal_jax.tracing.exchange import run_exchanged
from distreal_jax.tracing.form import form_of
from distreal_jax.tracing.hard_coded import Chosen, Placement
from distreal_jax.tracing.inner import described
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.operations import Array, exact
from distreal_jax.tracing.probing import Probe, Subject, kept_sets, run_smaller, with_counts
from distreal_jax.tracing.sub_networks import Path
from distreal_jax.tracing.walk import NetworkJaxpr

_TOLERANCE = 1e-4  # of the largest number; in double precision what is equal is so to 1e-12, in single to 1e-5
_STEP = 1e-8  # of a difference quotient in double precision: small, as a step over a kink of one ReLU would show
_REMEDY = (
    "let what is computed of a filter depend on no other filter and on no number of them, or keep the layers before it whole"
    " (keep_whole, see docs/extending.md)"
)

# The differences that were found before, by the jaxprs of the network and of its sub-networks.
_proved: dict[str, float] = {}


class NotANumberError(InputError):
    """Masked execution gives no number where the smaller network gives one."""


def prove(subject: Subject, *, by_numbers: bool) -> TracedNetwork:
    """Runs some smaller networks, abstractly and with numbers.

    Args:
      subject: The trace.
      by_numbers: Whether to compute as well; shapes alone don't show everything.

    Returns:
      The network, with what masked execution does about numbers of channels, and how well they agree.

    Raises:
      InputError: A smaller network fails, or is another one than the trace says.
    """
    probes, differences = run_smaller(subject, kept_sets(subject.network.full_widths))
    network = with_counts(subject) if any(differences) else subject.network
    exchanged = {train: network.actions[train] or (train and network.takes_in) for train in subject.wholes}
    forms = {train: form_of(of.closed, of.variables) for train, of in subject.wholes.items() if exchanged[train]}
    network = dataclasses.replace(network, forms=forms)
    if by_numbers and probes:
        actions = [str((network.actions, network.draws))]
        key = _fingerprint([*subject.wholes.values(), *(probe.small for probe in probes)], actions)
        if key not in _proved:
            _proved[key] = _Numbers(subject._replace(network=network)).check(probes)
        network = dataclasses.replace(network, agreement=_proved[key])
    return network


def _fingerprint(jaxprs: Sequence[NetworkJaxpr], others: Sequence[str]) -> str:
    """A hash of all that they compute, and of other texts."""
    text = hashlib.sha256("".join(others).encode())
    for jaxpr in jaxprs:
        own = itertools.chain(*derivatives_in(jaxpr.closed.jaxpr))  # in the text they are names alone
        for closed in (jaxpr.closed, *own):
            text.update(str(closed.jaxpr).encode())
            for constant in closed.consts:
                text.update(np.asarray(exact(constant)).tobytes())
    return text.hexdigest()


class _Numbers:
    """The comparison of masked and compact networks by numbers."""

    def __init__(self, subject: Subject) -> None:
        self._network, self._state, self._example = subject.network, subject.state, subject.example
        self._wholes, self._trails, wholes = subject.wholes, subject.trails, subject.wholes
        self._placement = Placement(subject.walk, subject.members, subject.network.full_widths)
        self._paths = wholes[True].variables
        changed, leaves = set(wholes[True].changed), jax.tree.leaves(subject.state)
        draw = np.random.default_rng(16)
        self._values = [
            _number_like(leaf, draw, is_parameter=path not in changed)
            for path, leaf in zip(self._paths, leaves, strict=True)
        ]
        self._is_trained = [
            path not in changed and jnp.issubdtype(leaf.dtype, jnp.floating)
            for path, leaf in zip(self._paths, leaves, strict=True)
        ]
        self._inputs: list[Array] = [
            draw.normal(size=leaf.shape)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else draw.integers(0, 2, leaf.shape).astype(leaf.dtype)
            for leaf in jax.tree.leaves(subject.example)
        ]
        self._largest = 0.0
        # Of the outputs in the loss whose gradients are compared, and the direction in which they are.
        self._weights: list[Array] = [draw.normal(size=shape) for shape in wholes[True].output_shapes]
        self._direction: list[Array] = [draw.normal(size=value.shape) for value in self._values]

    def check(self, probes: Sequence[Probe]) -> float:
        """Compares outputs and statistics on all sub-networks, gradients on the first; returns the largest difference."""
        for probe in probes:
            self._check_outputs(probe)
        self._check_gradients(probes[0])
        return self._largest

    # The two networks.

    def _along(self, path: Path, kept: Chosen) -> tuple[npt.NDArray[np.int64], ...]:
        return tuple(layout.positions(kept) for layout in self._network.layouts[path])

    def _taken(self, kept: Chosen, values: Sequence[Array]) -> list[Array]:
        pairs = zip(self._paths, values, strict=True)
        return [value[np.ix_(*self._along(path, kept))] if value.ndim else value for path, value in pairs]

    def _zeroed(self, kept: Chosen, values: Sequence[Array]) -> list[Array]:
        out = []
        for path, value in zip(self._paths, values, strict=True):
            zeroed = np.zeros_like(value)
            index = np.ix_(*self._along(path, kept)) if value.ndim else ()
            zeroed[index] = value[index]
            out.append(zeroed)
        return out

    @functools.cache  # noqa: B019  # it lives as long as the proof does
    def _masked_jaxpr(self, train: bool, *, noting: bool = False) -> core.ClosedJaxpr:
        """Of variables, input and masks; with the results of all steps instead of the network's, if these are noted."""
        closed, full = self._wholes[train].closed, self._network.full_widths
        if not noting and not self._network.actions[train]:
            return closed

        def masked(arguments: Sequence[Any], masks: Sequence[jax.Array]) -> Any:
            noted: list[Any] = []
            exchanges = self._network.exchanges(train, masks)
            results = run_exchanged(closed, arguments, exchanges, noted.append if noting else None)
            return noted if noting else results

        masks = [jax.ShapeDtypeStruct((count,), bool) for count in full]
        return jax.make_jaxpr(masked)([*map(described, closed.jaxpr.invars)], masks)

    def _compact_jaxpr(self, probe: Probe, *, noting: bool = False) -> core.ClosedJaxpr:
        """Of variables and input, as `_masked_jaxpr`."""
        if not noting and not self._network.draws[probe.train]:
            return probe.small.closed

        def compact(arguments: Sequence[Any]) -> Any:
            noted: list[Any] = []
            exchanges = self._network.exchanges(probe.train, None, [jnp.asarray(chosen) for chosen in probe.kept])
            results = run_exchanged(probe.small.closed, arguments, exchanges, noted.append if noting else None)
            return noted if noting else results

        return jax.make_jaxpr(compact)([*map(described, probe.small.closed.jaxpr.invars)])

    def _masks_for(self, closed: core.ClosedJaxpr, probe: Probe) -> list[Array]:
        """Those that a masked jaxpr takes, if it takes any."""
        if closed is self._wholes[probe.train].closed:
            return []
        pairs = zip(self._network.full_widths, probe.kept, strict=True)
        return [np.isin(np.arange(count), chosen) for count, chosen in pairs]

    def _masked(self, probe: Probe, values: Sequence[Array], *, noting: bool = False) -> list[Array]:
        closed = self._masked_jaxpr(probe.train, noting=noting)
        return compute(closed, [*self._zeroed(probe.kept, values), *self._inputs, *self._masks_for(closed, probe)])

    def _compact(self, probe: Probe, values: Sequence[Array], *, noting: bool = False) -> list[Array]:
        return compute(self._compact_jaxpr(probe, noting=noting), [*self._taken(probe.kept, values), *self._inputs])

    # What is compared.

    def _check_outputs(self, probe: Probe) -> None:
        masked, compact = self._masked(probe, self._values), self._compact(probe, self._values)
        outputs = len(self._wholes[probe.train].output_shapes)  # there may be fewer in evaluation
        for one, other in zip(masked[:outputs], compact[:outputs], strict=True):
            self._compare(probe, "the output", one, other)
        for path, after, small in zip(probe.small.changed, masked[outputs:], compact[outputs:], strict=True):
            taken = after[np.ix_(*self._along(path, probe.kept))] if after.ndim else after
            self._compare(probe, f"the new value of {path_name(path)!r}", taken, small)

    def _check_gradients(self, probe: Probe) -> None:
        closed = self._masked_jaxpr(probe.train)
        try:
            of_masked = self._gradients(closed, probe.small)
        except Exception as error:  # such as of a loop that runs as often as the data say
            raise NoGradientError(error) from error
        values = self._zeroed(probe.kept, self._values)
        masked = compute(of_masked, [*values, *self._inputs, *self._masks_for(closed, probe), *self._weights])
        taken = self._taken_parameters(probe.kept, masked)
        # The quotient spares a derivative. It would not show one of the network's own that is lost.
        if not any(derivatives_in(self._wholes[probe.train].closed.jaxpr)) and self._is_quotient(probe, taken):
            return
        # A kink, a derivative of the network's own, or a difference: now exactly.
        of_compact = self._gradients(self._compact_jaxpr(probe), probe.small)
        compact = compute(of_compact, [*self._taken(probe.kept, self._values), *self._inputs, *self._weights])
        # That of a bias before a normalisation is zero, and what is left of it is rounding of what cancels.
        least = 1e-6 * max(float(np.max(np.abs(gradient), initial=0)) for gradient in compact)
        for path, one, other in zip(self._select(self._paths), taken, compact, strict=True):
            self._compare(probe, f"the gradient of {path_name(path)!r}", one, other, least)

    def _is_quotient(self, probe: Probe, gradients: Sequence[Array]) -> bool:
        """Whether the gradients by the trained parameters are the difference quotient of the smaller network's loss."""
        direction = self._taken_parameters(probe.kept, self._select(self._direction))
        along = sum(float(np.sum(gradient * step)) for gradient, step in zip(gradients, direction, strict=True))
        quotient = (self._loss(probe, _STEP) - self._loss(probe, -_STEP)) / (2 * _STEP)
        return abs(along - quotient) <= _TOLERANCE * abs(quotient)

    def _select(self, of_variables: Sequence[Any]) -> list[Any]:
        """Of one thing for each variable, those of the parameters that are trained."""
        return [thing for thing, is_trained in zip(of_variables, self._is_trained, strict=True) if is_trained]

    def _taken_parameters(self, kept: Chosen, values: Sequence[Array]) -> list[Array]:
        pairs = zip(self._select(self._paths), values, strict=True)
        return [value[np.ix_(*self._along(path, kept))] if value.ndim else value for path, value in pairs]

    def _gradients(self, closed: core.ClosedJaxpr, like: NetworkJaxpr) -> core.ClosedJaxpr:
        """Of the arguments of a network's jaxpr, and weights of its outputs, to the gradients of the trained parameters."""
        function = core.jaxpr_as_fun(closed)
        which = tuple(index for index, is_trained in enumerate(self._is_trained) if is_trained)

        def loss(*arguments: Any) -> jax.Array:
            given, weights = arguments[: -len(self._weights)], arguments[-len(self._weights) :]
            pairs = zip(function(*given), weights, strict=False)
            return sum((jnp.sum(output.astype(jnp.float32) * weight) for output, weight in pairs), jnp.float32(0))

        weights = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in like.output_shapes]
        return jax.make_jaxpr(jax.grad(loss, argnums=which))(*map(described, closed.jaxpr.invars), *weights)

    def _loss(self, probe: Probe, step: float) -> float:
        moved = [
            value + step * along if is_trained else value
            for value, along, is_trained in zip(self._values, self._direction, self._is_trained, strict=True)
        ]
        return sum(
            float(np.sum(output * weight))
            for output, weight in zip(self._compact(probe, moved), self._weights, strict=False)
        )

    def _compare(self, probe: Probe, what: str, masked: Array, compact: Array, least: float = 1e-9) -> None:
        """Raises `InputError` if they differ by more than the tolerance; `least` is the smallest size that counts."""
        same = np.isfinite(compact) == np.isfinite(masked)
        difference = np.abs(np.where(np.isfinite(compact), masked - compact, 0))
        size = max(least, float(np.max(np.abs(compact), where=np.isfinite(compact), initial=0)))
        if np.all(same) and float(np.max(difference, initial=0)) <= _TOLERANCE * size:
            self._largest = max(self._largest, float(np.max(difference, initial=0)) / size)
            return
        by = f"by {np.max(difference) / size:.1g} of its size" if np.all(same) else "and is no number"
        where = self._first_difference(probe)
        kind = InputError if np.all(np.isfinite(masked)) else NotANumberError
        raise kind(
            f"can't trace {where}: with filters dropped, {what} differs {by} between the smaller network and the whole "
            f"network with these filters at zero ({'in training' if probe.train else 'in evaluation'}); {_REMEDY}"
        )

    def _first_difference(self, probe: Probe) -> str:
        """The layer and operation at which the networks differ first."""
        masked = self._masked(probe, self._values, noting=True)
        compact = self._compact(probe, self._values, noting=True)
        trail = [(step, labels) for step, labels in self._trails[probe.train] if not step.aside]
        mask = self._placement.mask(probe.kept)
        for (step, labels), one, other in zip(trail, masked, compact, strict=False):
            along = [np.flatnonzero(self._placement.kept_along(axis, mask)) for axis in labels]
            taken = one[np.ix_(*along)] if one.ndim else one
            if taken.shape == other.shape and not _alike(taken, other):
                return str(step)
        return "the network"


def _alike(masked: Array, compact: Array) -> bool:
    return bool(np.allclose(masked, compact, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.max(np.abs(compact), initial=0))))


def _number_like(leaf: Any, draw: np.random.Generator, *, is_parameter: bool) -> Array:
    """Numbers for a variable that leave nothing at zero or one."""
    shape, kind = leaf.shape, leaf.dtype
    if jnp.issubdtype(kind, jax.dtypes.extended):
        return np.zeros(shape, dtype=np.uint32)
    if not jnp.issubdtype(kind, jnp.floating):
        return np.zeros(shape, dtype=kind) if isinstance(leaf, jax.ShapeDtypeStruct) else exact(leaf)
    if not is_parameter:
        return 1 + 0.5 * draw.random(shape)  # a variance is positive
    if len(shape) < 2:
        return 1 + 0.3 * draw.normal(size=shape)  # a scale is seldom negative
    return draw.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
