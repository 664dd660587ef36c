"""`trace_network`: from an unannotated Flax NNX network to its filter groups, sub-networks and cost.

The network is traced once to a jaxpr. Every element along every axis of every parameter gets a label; walking the jaxpr,
each operation ties labels together (`rules`). What is tied to an input feature or to an output can't be dropped. The
remaining classes are the filters, and those that are created together and go the same way are a filter group. In the end
the trace proves itself (`proof`).
"""

import fnmatch
import functools
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.dtypes import canonicalize_dtype

from distreal_jax.errors import InputError
from distreal_jax.tracing.calling import without_intermediates
from distreal_jax.tracing.cost import Cost
from distreal_jax.tracing.factorings import decide, part_length, tie_parts
from distreal_jax.tracing.groups import (
    OUTPUT,
    actions_of,
    consumed_axes,
    draws_of,
    find_groups,
    layers_kept_whole,
    layout_of,
    misordered_groups,
    products_of,
    takes_in_of,
    why_misordered,
)
from distreal_jax.tracing.hard_coded import UncountedError
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.jaxprs import Wholes, batch_size, exact_network, whole_network
from distreal_jax.tracing.labels import AxisLabels, pinned
from distreal_jax.tracing.layout import MisorderedError, StretchError
from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.order import layer_order
from distreal_jax.tracing.probing import Subject, fails_at
from distreal_jax.tracing.proof import NotANumberError, prove
from distreal_jax.tracing.rules import known_rules
from distreal_jax.tracing.site import Kind, Value
from distreal_jax.tracing.sub_networks import Path
from distreal_jax.tracing.walk import Members, NetworkJaxpr, Trail, Walk, shape_of


def trace_network(
    model: nnx.Module, example_input: Any, *, proof: bool = True, keep_whole: str | Sequence[str] = ()
) -> TracedNetwork:
    """Traces a network once and finds what of it can be dropped.

    Args:
      model: Any Flax NNX network; it is not changed. Arguments of its `__call__` such as `train`, `deterministic` and `rngs`
        are recognised by their names (`call_network`).
      example_input: An input with a leading batch axis, for example [1, 28, 28, 1], or a pytree of such for a network that
        takes several: a tuple is passed as several arguments, a dict by their names. Only shapes and types matter.
      proof: Whether to prove by numbers, on a tiny batch, that networks whose dropped filters are zero compute what the
        smaller networks compute, once for a network.
      keep_whole: Layers none of whose filters are to be dropped, by their paths, such as "conv1" or "blocks.*.conv1", one or
        several; beside those that the network's class names in an attribute `keep_whole`.

    Returns:
      The network's filter groups, sub-networks (`take`, `put`, `mask`) and cost (`macs`).

    Raises:
      InputError: The network does not run on such an input, an operation can't be followed, a layer hard-codes a number of
        channels, or a smaller network computes something else; the line names layer, primitive and remedy.
    """
    if not isinstance(model, nnx.Module):
        raise InputError(f"expected a flax.nnx.Module, was given {type(model).__name__}; build the network with Flax NNX")
    inputs = jax.tree.leaves(example_input)
    if not inputs or not all(getattr(leaf, "ndim", 0) and 0 not in leaf.shape for leaf in inputs):
        raise InputError("example_input holds no example; give an array with a leading batch axis, such as [1, 28, 28, 1]")
    if len({leaf.shape[0] for leaf in inputs}) > 1:
        raise InputError(
            f"example_input has leaves of shapes {', '.join(str(leaf.shape) for leaf in inputs)}; give all of them the same "
            "leading batch axis"
        )
    model = without_intermediates(model)
    graphdef, state = nnx.split(model)
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, canonicalize_dtype(leaf.dtype)), example_input)
    layers = (*_names(keep_whole), *_names(getattr(model, "keep_whole", ())))

    def anew() -> TracedNetwork:
        return _proved_trace(model, graphdef, state, whole_network(graphdef, state, example), layers, proof=proof)

    if not _is_installed(model):
        return anew()
    shapes = tuple((path, leaf.shape, str(leaf.dtype)) for path, leaf in jax.tree.leaves_with_path((state, example)))
    key = (type(model), graphdef, shapes, jax.tree.structure(example), layers, proof, known_rules())
    try:
        found = _traced_before.get(key)
    except TypeError:  # the network holds something of its own that can't be compared
        return anew()
    if found is None:
        found = anew()
        _traced_before[key] = found
        if len(_traced_before) > _MOST_REMEMBERED:
            del _traced_before[next(iter(_traced_before))]
    return found


def _names(keep_whole: Any) -> tuple[str, ...]:
    """One path of a layer, or several."""
    several = [keep_whole] if isinstance(keep_whole, str) else keep_whole
    names = tuple(several) if isinstance(several, Iterable) else (several,)
    if not all(isinstance(name, str) for name in names):
        said = reprlib.repr(keep_whole)
        raise InputError(f'keep_whole is {said}; give paths of layers, such as "conv1" or ["conv1", "blocks.*.conv1"]')
    return names


_traced_before: dict[Any, TracedNetwork] = {}  # networks that this process has traced, by all that tells them apart
_MOST_REMEMBERED = 32  # chosen by us
_INSTALLED = ("distreal_jax", "flax", "jax", "numpy")


def _is_installed(model: nnx.Module) -> bool:
    """Whether all code that a network consists of stays what it is.

    A notebook may redefine anything that code of the user's calls. What that does to smaller networks is not seen in the
    whole network's jaxpr, such as a number of channels that is no longer written down.
    """
    used = [thing for _, module in nnx.iter_modules(model) for thing in (type(module), *vars(module).values())]
    packages = [str(getattr(thing, "__module__", "")).partition(".")[0] for thing in used if callable(thing)]
    return all(package in _INSTALLED for package in packages)


def _proved_trace(
    model: nnx.Module, graphdef: Any, state: Any, wholes: Wholes, layers: tuple[str, ...], *, proof: bool
) -> TracedNetwork:
    """`trace_network` of what has been checked; `layers` are to be kept whole."""
    traced_with = functools.partial(_traced_with, graphdef, layers, proof=proof)
    kept = _KeptBack(Counter(), {}, {}, {}, layers)
    refusal: InputError | None = None
    while True:
        traced = _traced(model, graphdef, state, wholes, kept, traced_with)
        if refusal is not None and not traced.subject.network.filter_groups:
            raise refusal
        try:
            return prove(traced.subject, by_numbers=proof)
        except StretchError:  # of full size they need not be stretched
            if wholes.example is wholes.counted_for:
                raise
            wholes = wholes.of_full_size()
        except NotANumberError:
            if kept.guarded:
                raise
            kept = kept._replace(guarded=True)
        except InputError as error:
            if not _keeps_more_back(traced, model, kept, error):
                raise
            refusal = refusal or error


def _traced_with(graphdef: Any, layers: tuple[str, ...], variables: Any, example: Any, *, proof: bool) -> TracedNetwork:
    """The trace of just these variables and examples, or of their shapes."""
    state, example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (variables, example))
    wholes = exact_network(graphdef, state, example)
    return _proved_trace(nnx.merge(graphdef, state), graphdef, state, wholes, layers, proof=proof)


class _KeptBack(NamedTuple):
    """What is not dropped although nothing that is done to it forbids it."""

    passed_over: Counter[Kind]  # factors of split axes whose lengths are written down, by kind
    channels: dict[tuple[int, tuple[int, ...]], str]  # of creations, those that smaller networks fail by, and why
    cuts: dict[bytes, bool]  # of axes of channels that are cut: whether equal parts go together, or that did not help
    following: dict[bytes, bool]  # of axes that are filled up: whether by something for each channel, or that did not help
    layers: tuple[str, ...]  # patterns of paths of layers that are to be kept whole
    guarded: bool = False  # whether functions that may give no number are kept from what dropped channels hold


class _Traced(NamedTuple):
    """A trace that is not proved yet."""

    subject: Subject
    carriers: dict[Kind, frozenset[int]]  # groups along the factors of split axes, by kind
    cut: dict[bytes, frozenset[int]]  # groups along the axes that are cut
    filled: dict[bytes, frozenset[int]]  # groups along the axes that are filled up by as many elements
    origins: tuple[int, ...]  # for each group, the creation of its channels

    def channels_of(self, group: int) -> tuple[int, tuple[int, ...]]:
        """The creation of a group's channels, and which channels of it these are."""
        return _channels_of(self.subject.walk, self.subject.members, self.origins, group)


def _traced(
    model: nnx.Module,
    graphdef: Any,
    state: Any,
    wholes: Wholes,
    kept: _KeptBack,
    traced_with: Callable[[Any, Any], TracedNetwork],
) -> _Traced:
    """A trace in which some channels are kept back."""
    modules = {path_name(path): module for path, module in nnx.iter_modules(model)}
    walk, parameters, trails = _walked(modules, wholes, kept)
    kept_track_of = {tuple(map(str, path)) for path, leaf in nnx.to_flat_state(state) if isinstance(leaf, nnx.BatchStat)}
    trained = {tuple(map(str, path)) for path, leaf in nnx.to_flat_state(state) if isinstance(leaf, nnx.Param)}
    groups, members, origins = find_groups(walk, parameters, modules, kept_track_of & walk.seen.statistics)
    order, reached = layer_order(walk.seen, tuple(parameters), trained)
    try:
        network = TracedNetwork(
            graphdef=graphdef,
            filter_groups=groups,
            layouts={
                path: tuple(layout_of(walk, axis, members, groups) for axis in value.labels)
                for path, value in parameters.items()
            },
            consumed=consumed_axes(walk, parameters),
            cost=Cost(products_of(walk, members, len(groups)), reached, len(groups), batch_size(wholes.counted_for)),
            order=order,
            actions=actions_of(walk, members, groups, guarded=kept.guarded),
            draws=draws_of(walk, members, groups),
            takes_in=takes_in_of(walk, members, groups),
            lookups=frozenset(place for train, place in walk.seen.lookups if not train),
            kept_whole=layers_kept_whole(walk, parameters, members),
            uncounted=tuple(dict.fromkeys(walk.seen.uncounted)),
            traced_with=traced_with,
        )
    except MisorderedError as misordered:
        for group in {misordered.group, *misordered_groups(walk, parameters, members, groups)}:
            why = why_misordered(walk, trails.values(), members, groups, group, walk.seen.creations[origins[group]])
            kept.channels[_channels_of(walk, members, origins, group)] = why
        return _traced(model, graphdef, state, wholes, kept, traced_with)
    cut = {
        key: _groups_along(walk, labels, members)
        for key, (labels, places) in walk.seen.cuts.items()
        if part_length(labels, places) > 1
    }
    carriers: dict[Kind, frozenset[int]] = {}
    for factoring in walk.seen.factorings:
        along = frozenset.union(*(_groups_along(walk, labels, members) for labels in factoring.factors))
        carriers[factoring.kind] = carriers.get(factoring.kind, frozenset()) | along
    subject = Subject(network, state, wholes.example, wholes.jaxprs, trails, walk, members)
    filled = {key: _groups_along(walk, labels, members) for key, labels in walk.seen.fillings.items()}
    return _Traced(subject, carriers, cut, filled, origins)


def _groups_along(walk: Walk, labels: AxisLabels, members: Members) -> frozenset[int]:
    return frozenset(member[0] for member in walk.members_along(labels, members) if member)


def _channels_of(walk: Walk, members: Members, origins: Sequence[int], group: int) -> tuple[int, tuple[int, ...]]:
    along = walk.members_along(walk.seen.creations[origins[group]].labels, members)
    return origins[group], tuple(index for index, member in enumerate(along) if member and member[0] == group)


def _keeps_more_back(traced: _Traced, model: nnx.Module, kept: _KeptBack, refusal: InputError) -> bool:
    """Finds what smaller networks fail by, and keeps it back from now on.

    That are channels that are reshaped to lengths that are written down, such as a number of heads, or whose number these
    lengths are computed from, or whose number is written down elsewhere, or computed with in a way that is not known.
    Channels that are cut at a share of them, such as in halves, are not kept back as long as they can be dropped from all
    parts alike, and nor are those that are filled up with as many zeros.

    Args:
      traced: The trace.
      model: The network.
      kept: What was kept back before; is added to.
      refusal: Why the network would be refused.
    """
    counts = isinstance(refusal, UncountedError)
    for kind, groups in traced.carriers.items():
        if groups and not counts and fails_at(traced.subject, groups, refusal):
            kept.passed_over[kind] += 1
            return True
    for key, groups in traced.cut.items():
        if groups and not counts and kept.cuts.get(key, True) and fails_at(traced.subject, groups, refusal):
            kept.cuts[key] = key not in kept.cuts
            return True
    for key, groups in traced.filled.items():
        if groups and not counts and kept.following.get(key, True) and fails_at(traced.subject, groups, refusal):
            kept.following[key] = key not in kept.following
            return True
    modules = {path_name(path): module for path, module in nnx.iter_modules(model)}
    seen = traced.subject.walk.seen
    written_down = {factoring.layer: factoring for factoring in seen.factorings if factoring.kind in kept.passed_over}
    found = False
    for group, creation in enumerate(traced.origins):
        error = fails_at(traced.subject, [group], refusal)
        if error is None:
            continue
        module = modules.get(error.layer)
        is_inside = seen.creations[creation].layer.startswith(f"{error.layer}.")
        if counts or error.follows:
            reason = error.where
        elif error.layer in written_down:
            reason = f"{written_down[error.layer].where}, whose lengths are taken from it"
        elif is_inside and type(module).__module__.startswith("flax.nnx"):
            reason = f"layer {error.layer!r}, a {type(module).__name__} of Flax, which needs all"
        else:
            reason = f"{error.where}, where their number is written down (take it from the array's shape to drop some)"
        kept.channels[traced.channels_of(group)] = reason
        found = True
    return found


def _walked(
    modules: dict[str, nnx.Module], wholes: Wholes, kept: _KeptBack
) -> tuple[Walk, dict[Path, Value], dict[bool, Trail]]:
    """A walk over the network in both modes: the labels of its variables, and of every step.

    Inputs and outputs are pinned, and a variable after the call is dropped with what it was before.
    """
    following = [key for key, follows in kept.following.items() if follows]
    walk, trails = Walk(modules, batch_size(wholes.counted_for), following), {}
    counted, paths = wholes.counted, wholes.counted[True].variables
    shapes = [shape_of(atom) for atom in counted[True].closed.jaxpr.invars]
    variables = [walk.new_variable(shape) for shape in shapes[: len(paths)]]
    parameters = dict(zip(paths, variables, strict=True))

    def run(whole: NetworkJaxpr, example: Any, *, train: bool) -> Trail:
        inputs = [Value(tuple(map(pinned, leaf.shape)), weight=False) for leaf in jax.tree.leaves(example)]
        results, trail = walk.network(whole, [*variables, *inputs], train=train)
        count = len(whole.output_shapes)
        walk.ties.because = OUTPUT
        for output in results[:count]:
            for labels in output.labels:
                walk.ties.pin(labels)
        for path, value in zip(whole.changed, results[count:], strict=True):
            if [*map(len, value.labels)] != [*map(len, parameters[path].labels)]:
                raise InputError(f"the network's call changes the shape of its variable {path_name(path)!r}; keep it")
            for before, after in zip(parameters[path].labels, value.labels, strict=True):
                walk.ties.tie_axes([before, after])
            if train and not value.weight:
                walk.seen.statistics.add(path)
        return trail

    # A step of training is what is counted, at the size of the images, with branches that run in training alone.
    trails[True] = run(counted[True], wholes.counted_for, train=True)
    products, meetings = list(walk.seen.products), list(walk.seen.meetings)
    trails[False] = run(counted[False], wholes.counted_for, train=False)
    if wholes.example is not wholes.counted_for:
        trails = {train: run(small, wholes.example, train=train) for train, small in wholes.jaxprs.items()}
    walk.seen.products, walk.seen.meetings = products, meetings
    for (index, places), why in kept.channels.items():
        walk.ties.because = why
        walk.ties.pin(walk.seen.creations[index].labels[list(places)])
    for creation in walk.seen.creations:
        if any(fnmatch.fnmatchcase(creation.layer, pattern) for pattern in kept.layers):
            walk.ties.because = "keep_whole"
            walk.ties.pin(creation.labels)
    for pattern in kept.layers:
        if not any(fnmatch.fnmatchcase(creation.layer, pattern) for creation in walk.seen.creations):
            raise InputError(
                f"keep_whole names {pattern!r}, which is no layer with filters; choose from: "
                f"{', '.join(dict.fromkeys(creation.layer for creation in walk.seen.creations))}"
            )
    walk.ties.because = "channels that are cut into equal parts"
    for key, together in kept.cuts.items():
        if together and key in walk.seen.cuts:
            tie_parts(*walk.seen.cuts[key], walk.ties)
    for labels, why in walk.seen.wholes:
        walk.ties.because = why
        walk.ties.pin(labels)
    decide(walk.seen.factorings, walk.ties, kept.passed_over)
    return walk, parameters, trails
