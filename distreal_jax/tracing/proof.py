"""A trace proves itself: smaller networks are run abstractly, and then computed, against what the trace says of them.

The rules of the primitives say which filters go together. Whether they are right about a network is seen by running it: as
a smaller network (compact), and whole with the dropped filters at zero (masked). Outputs, gradients and the statistics that
normalisations keep have to be the same, in training and in evaluation, whichever filters are kept, few or many.
"""

import functools
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.extend import core

from distreal_jax.errors import InputError
from distreal_jax.tracing.arithmetic import Array, Visit, compute, exact
from distreal_jax.tracing.hard_coded import Chosen, HardCodedError, Placement, refuse_hard_coded_counts, sub_network_jaxpr
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.network import Path, TracedNetwork
from distreal_jax.tracing.walk import Members, NetworkJaxpr, Step, Trail, Walk, jaxpr_of, steps_in

_TOLERANCE = 1e-4  # of the largest number; in double precision what is equal is so to 1e-12, in single to 1e-5
_STEP = 1e-8  # of a difference quotient in double precision: small, as a step over a kink of one ReLU would show
_REMEDY = (
    "let what is computed of a filter depend on no other filter and on no number of them, or keep the layers before it whole"
    " (keep_whole, see docs/extending.md)"
)

_proved: set[str] = set()  # what was computed before, by the jaxprs of the network and of its sub-networks


class Probe(NamedTuple):
    """Sub-networks that the trace is tried on."""

    train: bool
    small: NetworkJaxpr
    kept: Chosen


class Subject(NamedTuple):
    """A trace that is to be proved.

    Attributes:
      network: What the trace told.
      state: The network's variables, or their shapes.
      example: The shapes and types of its inputs.
      wholes: The network's jaxpr in training (True) and in evaluation.
      trails: The steps of these, with their labels.
      walk: The walk over both.
      members: For each root label its (group, filter).
    """

    network: TracedNetwork
    state: Any
    example: Any
    wholes: dict[bool, NetworkJaxpr]
    trails: dict[bool, Trail]
    walk: Walk
    members: Members


def prove(subject: Subject, *, by_numbers: bool) -> None:
    """Runs some smaller networks, abstractly and with numbers.

    Args:
      subject: The trace.
      by_numbers: Whether to compute as well; shapes alone don't show everything.

    Raises:
      InputError: A smaller network fails, or is another one than the trace says.
    """
    probes = _probes(subject, _kept_sets(subject.network.full_widths))
    if by_numbers and probes:
        key = _fingerprint([*subject.wholes.values(), *(probe.small for probe in probes)])
        if key not in _proved:
            _Numbers(subject).check(probes)
            _proved.add(key)


def fails_at(subject: Subject, groups: Collection[int]) -> HardCodedError | None:
    """What goes wrong where these groups alone have fewer filters: the network does not run, or has other shapes."""
    draw = np.random.default_rng(16)
    full = subject.network.full_widths
    widths = [max(1, count // 2) if index in groups else count for index, count in enumerate(full)]
    kept = [np.sort(draw.permutation(count)[:width]) for count, width in zip(full, widths, strict=True)]
    try:
        _probes(subject, [(True, kept)])
    except HardCodedError as error:
        return error
    return None


def _probes(subject: Subject, sets: Sequence[tuple[bool, Chosen]]) -> list[Probe]:
    placement = Placement(subject.walk, subject.members, subject.network.full_widths)
    probes = []
    for train, kept in sets:
        widths = [len(chosen) for chosen in kept]
        small = sub_network_jaxpr(subject.network, widths, subject.state, subject.example, train=train)
        refuse_hard_coded_counts(small, subject.trails[train], subject.walk, placement, kept)
        probes.append(Probe(train, small, kept))
    return probes


def _kept_sets(filters: Sequence[int]) -> list[tuple[bool, Chosen]]:
    """In training or not, and filters that are kept: few, many others, and in every other group alone."""
    draw = np.random.default_rng(16)
    orders = [draw.permutation(count) for count in filters]
    # A normalisation over a single channel leaves nothing to compare.
    least = [min(2, max(1, count - 1)) for count in filters]
    few = [int(draw.integers(low, max(low, count // 3) + 1)) for low, count in zip(least, filters, strict=True)]
    # What the few are is dropped here, so that each filter is dropped somewhere.
    most = [max(1, count - width) for count, width in zip(filters, few, strict=True)]
    many = [int(draw.integers(min(-(-count // 2), width), width + 1)) for count, width in zip(filters, most, strict=True)]
    nearly = [max(1, count - 1 - index % max(1, count - 2)) for index, count in enumerate(filters)]
    every_other = [width if index % 2 else count for index, (width, count) in enumerate(zip(nearly, filters, strict=True))]
    return [
        (train, [np.sort(order[::step][:width]) for order, width in zip(orders, widths, strict=True)])
        for train, step, widths in ((True, 1, few), (False, -1, many), (True, -1, every_other))
        if tuple(widths) != tuple(filters)
    ]


def _fingerprint(jaxprs: Sequence[NetworkJaxpr]) -> str:
    """A hash of all that they compute."""
    text = hashlib.sha256()
    for jaxpr in jaxprs:
        text.update(str(jaxpr.closed.jaxpr).encode())
        for constant in jaxpr.closed.consts:
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
        # Of the outputs in the loss whose gradients are compared, and the direction in which they are.
        self._weights: list[Array] = [draw.normal(size=shape) for shape in wholes[True].output_shapes]
        self._direction: list[Array] = [draw.normal(size=value.shape) for value in self._values]

    def check(self, probes: Sequence[Probe]) -> None:
        """Compares outputs and statistics on all sub-networks, gradients on the first."""
        for probe in probes:
            self._check_outputs(probe)
        self._check_gradients(probes[0])

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
    def _masked_jaxpr(self, train: bool) -> core.ClosedJaxpr:
        """Of variables, input, and masks of the layers with statistics over channels."""
        layouts = self._network.normalised_over
        if not layouts:
            return self._wholes[train].closed
        masks = {call: jax.ShapeDtypeStruct((layout.length,), bool) for call, layout in layouts.items()}
        return jaxpr_of(self._network.graphdef, self._state, self._example, train=train, masks=masks).closed

    def _masks(self, kept: Chosen) -> list[Array]:
        return [
            np.isin(np.arange(layout.length), layout.positions(kept)) for layout in self._network.normalised_over.values()
        ]

    def _masked(self, probe: Probe, values: Sequence[Array], visit: Visit | None = None) -> list[Array]:
        arguments = [*self._zeroed(probe.kept, values), *self._inputs, *self._masks(probe.kept)]
        return compute(self._masked_jaxpr(probe.train), arguments, visit)

    def _compact(self, probe: Probe, values: Sequence[Array], visit: Visit | None = None) -> list[Array]:
        return compute(probe.small.closed, [*self._taken(probe.kept, values), *self._inputs], visit)

    # What is compared.

    def _check_outputs(self, probe: Probe) -> None:
        masked, compact = self._masked(probe, self._values), self._compact(probe, self._values)
        outputs = len(self._weights)
        for one, other in zip(masked[:outputs], compact[:outputs], strict=True):
            self._compare(probe, "the output", one, other)
        for path, after, small in zip(probe.small.changed, masked[outputs:], compact[outputs:], strict=True):
            taken = after[np.ix_(*self._along(path, probe.kept))] if after.ndim else after
            self._compare(probe, f"the new value of {path_name(path)!r}", taken, small)

    def _check_gradients(self, probe: Probe) -> None:
        of_masked = self._gradients(self._masked_jaxpr(probe.train), probe.small)
        values = self._zeroed(probe.kept, self._values)
        masked = compute(of_masked, [*values, *self._inputs, *self._masks(probe.kept), *self._weights])
        taken = self._taken_parameters(probe.kept, masked)
        direction = self._taken_parameters(probe.kept, self._select(self._direction))
        along = sum(float(np.sum(gradient * step)) for gradient, step in zip(taken, direction, strict=True))
        quotient = (self._loss(probe, _STEP) - self._loss(probe, -_STEP)) / (2 * _STEP)
        if abs(along - quotient) <= _TOLERANCE * abs(quotient):
            return
        # A kink, a derivative of the network's own, or a difference: now exactly.
        of_compact = self._gradients(probe.small.closed, probe.small)
        compact = compute(of_compact, [*self._taken(probe.kept, self._values), *self._inputs, *self._weights])
        names = self._select(self._paths)
        for path, one, other in zip(names, taken, compact, strict=True):
            self._compare(probe, f"the gradient of {path_name(path)!r}", one, other)

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

        shapes = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in closed.jaxpr.invars]
        weights = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in like.output_shapes]
        return jax.make_jaxpr(jax.grad(loss, argnums=which))(*shapes, *weights)

    def _loss(self, probe: Probe, step: float) -> float:
        moved = [
            value + step * along if is_trained else value
            for value, along, is_trained in zip(self._values, self._direction, self._is_trained, strict=True)
        ]
        return sum(
            float(np.sum(output * weight))
            for output, weight in zip(self._compact(probe, moved), self._weights, strict=False)
        )

    def _compare(self, probe: Probe, what: str, masked: Array, compact: Array) -> None:
        same = np.isfinite(compact) == np.isfinite(masked)
        difference = np.abs(np.where(np.isfinite(compact), masked - compact, 0))
        size = float(np.max(np.abs(compact), where=np.isfinite(compact), initial=1e-9))
        if np.all(same) and float(np.max(difference, initial=0)) <= _TOLERANCE * size:
            return
        by = f"by {np.max(difference) / size:.1g} of its size" if np.all(same) else "and is no number"
        where = self._first_difference(probe)
        raise InputError(
            f"can't trace {where}: with filters dropped, {what} differs {by} between the smaller network and the whole "
            f"network with these filters at zero ({'in training' if probe.train else 'in evaluation'}); {_REMEDY}"
        )

    def _first_difference(self, probe: Probe) -> str:
        """The layer and operation at which the networks differ first."""
        masked: list[Array] = []
        compact: list[Array] = []
        self._masked(probe, self._values, lambda _, results: masked.extend(results))
        self._compact(probe, self._values, lambda _, results: compact.extend(results))
        layers = {layer for layer, _ in self._network.normalised_over}

        def comparable(steps: Iterable[Step], of_steps: Sequence[Any]) -> list[tuple[Step, Any]]:
            """Without those of layers that are masked: the mask takes steps of its own."""
            return [pair for pair in zip(steps, of_steps, strict=True) if pair[0].layer not in layers]

        trail = comparable(*zip(*self._trails[probe.train], strict=True))
        ones = comparable(steps_in(self._masked_jaxpr(probe.train).jaxpr), masked)
        others = comparable(steps_in(probe.small.closed.jaxpr), compact)
        mask = self._placement.mask(probe.kept)
        for (step, labels), (_, one), (_, other) in zip(trail, ones, others, strict=False):
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
