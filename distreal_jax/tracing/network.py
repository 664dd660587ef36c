"""A traced network: its filter groups, its sub-networks and its cost. Nothing else here knows how networks are built."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.tracing import shown
from distreal_jax.tracing.cost import Cost
from distreal_jax.tracing.exchange import Exchange
from distreal_jax.tracing.filter_group import KeptWhole, dropped_groups
from distreal_jax.tracing.form import Form, Key
from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.layout import AxisLayout
from distreal_jax.tracing.masking import Actions, Draws, Scaled, acting, drawing, narrowed
from distreal_jax.tracing.order import LayerOrder
from distreal_jax.tracing.sub_networks import Kept, Path, SubNetworks, leaf_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class TracedNetwork(SubNetworks):
    """What one trace of a network tells; made by `distreal_jax.trace_network`. It has the attributes of `SubNetworks` too.

    Attributes:
      graphdef: The network's static structure, for `flax.nnx.merge`.
      cost: Its convolutions and dots.
      order: The layers in the order in which they run.
      actions: In training (True) and in evaluation, what masked execution does that is more than to zero filters.
      draws: In training (True) and in evaluation, random numbers that filters meet.
      takes_in: In training, kernels that take in channels of filter groups, so that these can be rescaled.
      lookups: In evaluation, where what is learnt is looked up by indices that are computed from the input.
      kept_whole: Layers none of whose filters can be dropped, and why; not those that put out the network's outputs.
      uncounted: Where the network does work that grows as products do and is not in its MACs, such as an FFT or a Cholesky
        decomposition: layer and operation.
      forms: In training and in evaluation, the form of the network's jaxpr, where steps of it may be exchanged.
      traced_with: The trace of variables and examples of given shapes, where their jaxpr has another form.
      agreement: The largest difference between masked and compact execution in the proof, of the largest number; None where
        nothing was proved by numbers.
    """

    graphdef: Any
    cost: Cost
    order: LayerOrder
    actions: Mapping[bool, Actions]
    draws: Mapping[bool, Draws]
    takes_in: Mapping[Place, Scaled]
    lookups: frozenset[Place]
    kept_whole: tuple[KeptWhole, ...]
    uncounted: tuple[str, ...] = ()
    forms: Mapping[bool, Form] = dataclasses.field(default_factory=dict)
    traced_with: Callable[[Any, Any], "TracedNetwork"]
    agreement: float | None = None

    def __str__(self) -> str:
        return shown.as_text(self)

    __repr__ = __str__  # a dataclass would write out the whole trace

    def _repr_html_(self) -> str:
        return shown.as_html(self)

    def refuse_if_nothing_is_dropped(self, who: str, *, dense: bool = False) -> None:
        """Raises `InputError` if there is no group that `who` drops filters of, and says what is kept whole."""
        if dropped_groups(self.filter_groups, dense=dense).any():
            return
        whole = "; ".join(map(str, self.kept_whole[:3])) or "it has no hidden filters"
        raise InputError(
            f"{who} drops filters, and of this network none can be dropped ({whole}); take another network or method"
        )

    def narrowed(self, widths: Sequence[int]) -> "TracedNetwork":
        """The network of so many filters, whose variables `take` gives: to be masked, or taken from, in its turn.

        Rescaling is relative to all filters of this network, as a smaller part of a part is still a part of the whole.

        Raises:
          InputError: Not one width for each group, or one outside [1, filters].
        """
        kept = self.checked_widths(widths)
        groups = zip(self.filter_groups, kept, strict=True)
        return dataclasses.replace(
            self,
            filter_groups=tuple(dataclasses.replace(group, filters=width) for group, width in groups),
            layouts={path: tuple(axis.narrowed(kept) for axis in axes) for path, axes in self.layouts.items()},
            actions={train: narrowed(actions, kept) for train, actions in self.actions.items()},
            takes_in={place: scaled.narrowed(kept) for place, scaled in self.takes_in.items()},
            narrowed_from=self.narrowed_from or self.full_widths,
        )

    def macs(self, widths: Sequence[int] | None = None) -> int:
        """Multiply-accumulates of one example's forward pass, exact.

        They are those of convolutions and products of matrices. Padded positions of a convolution count like all others, as
        is usual in the literature. A `ragged_dot` counts every row once. What is listed in `uncounted` is not in them.

        Args:
          widths: Filters kept in each group; None keeps all.
        """
        return int(self.macs_of_many(np.asarray([self.checked_widths(widths)]))[0])

    def macs_of_many(self, widths: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """`macs` of many width vectors at once: int [vectors, groups] to int64 [vectors]."""
        return self.cost.forward(widths)

    def training_macs(self, widths: Sequence[int] | None = None, depth: int = 0) -> int:
        """Multiply-accumulates of one example's forward and backward passes, exact.

        The backward pass computes the gradients of the kernels of the trained layers, and those of the activations down to
        the first trained layer: the network's first layer needs none of its input. Each takes as many as the forward pass.
        The loss is taken to be of all outputs that are floats. What gets no gradient from them is computed forwards alone,
        such as what is behind a `stop_gradient`.

        Args:
          widths: Filters kept in each group; None keeps all.
          depth: Layers before the first that is trained, of `order.layers`.

        Raises:
          InputError: As `checked_widths` and `checked_depth`.
        """
        return int(self.training_macs_of_many([self.checked_widths(widths)], [self.checked_depth(depth)])[0])

    def training_macs_of_many(self, widths: npt.ArrayLike, depths: npt.ArrayLike = 0) -> npt.NDArray[np.int64]:
        """`training_macs` of many at once: int [vectors, groups] and int [vectors] to int64 [vectors]."""
        return self.cost.training(widths, depths)

    def checked_depth(self, depth: int) -> int:
        """A number of layers before the first that is trained.

        Raises:
          InputError: Below 0, or nothing is left to be trained.
        """
        last = len(self.order.layers) - 1
        if depth != int(depth) or not 0 <= depth <= last:
            raise InputError(
                f"depth {depth} given for a network of {last + 1} layers; expected a whole number from 0 (all are "
                f"trained) to {last} (the last alone is)"
            )
        return int(depth)

    def variables(self, widths: Sequence[int] | None = None) -> int:
        """Elements of all variables of the sub-network: what a device receives and sends, in numbers."""
        kept = self.checked_widths(widths)
        return sum(math.prod(layout.kept_length(kept) for layout in axes) for axes in self.layouts.values())

    def trained_variables(self, widths: Sequence[int] | None = None, depth: int = 0) -> int:
        """Elements of the sub-network's parameters of layers from `depth` on."""
        kept = self.checked_widths(widths)
        trained = [path for path, layer in self.order.of.items() if layer >= depth]
        return sum(math.prod(axis.kept_length(kept) for axis in self.layouts[path]) for path in trained)

    def signature(self) -> str:
        """A hash of everything that a table depends on: groups, shapes of variables, and cost."""
        probes = [self.full_widths] + [
            tuple(1 + (7 * probe + 3 * index) % count for index, count in enumerate(self.full_widths)) for probe in range(3)
        ]
        description = {
            "groups": [(group.name, group.filters, group.convolutional) for group in self.filter_groups],
            "variables": {path_name(path): [axis.length for axis in axes] for path, axes in sorted(self.layouts.items())},
            "macs": self.macs_of_many(probes).tolist(),
        }
        return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]

    def select_trained(self, depth: int | jax.Array, trained: Any, frozen: Any) -> Any:
        """Leaf by leaf: the first tree for parameters of layers from `depth` on, the second for those of layers before.

        Args:
          depth: Layers before the first that is trained; an int chooses leaves, an array [] their elements.
          trained: Any pytree that `take` accepts. Leaves that are no parameters of the network are taken from it.
          frozen: A tree of the same structure and shapes.
        """

        def chosen(_: Sequence[AxisLayout], new: jax.Array, old: jax.Array, path: Path) -> jax.Array:
            layer = self.order.of.get(path)
            if layer is None:
                return new
            if isinstance(depth, int):
                return new if layer >= depth else old
            return jnp.where(layer >= depth, new, old)

        return self.map(chosen, trained, frozen, with_path=True)

    def trained(self, params: Any, depth: int) -> Any:
        """For each leaf of the parameters whether it is trained: it is of a layer from `depth` on."""
        return jax.tree_util.tree_map_with_path(lambda key, _: self.order.of[leaf_path(key)] >= depth, params)

    def check_rescaled(self) -> None:
        """Raises `InputError` if what a product takes in would have to be rescaled and can't be."""
        for place, scaled in self.takes_in.items():
            if not scaled.in_reach and not all(self.filter_groups[group].normalised for group in scaled.groups):
                raise InputError(
                    f"layer {place.layer!r} multiplies inside a function with a derivative of its own (primitive "
                    f"{place.primitive!r}), where dropped filters can't be made up for; train with rescale=False, or keep "
                    "the layers before it whole (keep_whole, see docs/extending.md)"
                )

    def factors(self, widths: Sequence[int | jax.Array]) -> list[float | jax.Array]:
        """How many times what the kept filters of each group give counts in training, for all filters of the group.

        It is `filters / width` where no normalisation follows: inverted dropout (Srivastava et al., JMLR 2014, section 10).

        Args:
          widths: For each group the filters that are kept, which may be data in masked execution.
        """
        pairs = zip(self.filter_groups, self.narrowed_from or self.full_widths, widths, strict=True)
        return [1.0 if group.normalised else count / width for group, count, width in pairs]

    def in_form(
        self, form: Form, variables: Any, example: Any, *, train: bool, masked: bool, factors: Sequence[Any]
    ) -> tuple["TracedNetwork", list[int]]:
        """The trace whose places are those of a call of the network, of which only `actions` and `takes_in` are of use.

        Args:
          form: Of the call.
          variables: The network's, or their shapes.
          example: The inputs, or their shapes.
          train: In training or in evaluation.
          masked: Whether dropped filters are there, at zero.
          factors: As for `exchanges`.

        Returns:
          The trace, and which groups of this one its groups are.

        Raises:
          InputError: In the call, the network's filters can't be told from its steps.
        """
        everywhere = range(len(self.filter_groups))
        if self._has(form, train, masked, factors):
            return self, [*everywhere]
        here = [group for group in everywhere if self.full_widths[group] > 1]  # there is nothing to drop of a single filter
        shapes = " and ".join(str(list(leaf.shape)) for leaf in jax.tree.leaves(example))
        said = (
            f"{'masked execution' if masked else 'rescaling'} of inputs {shapes} in a network of "
            f"{', '.join(map(str, self.full_widths))} filters can't be followed: it runs in other steps there than those "
            "that were traced"
        )
        remedy = (
            "take other sizes, such as more than one example in a mini-batch, or "
            f"{'compact execution' if masked else 'train with rescale=False'}"
        )
        try:
            there = self.traced_with(variables, example)
        except InputError as error:
            raise InputError(f"{said} ({error}); {remedy}") from error
        numbers = {group: number for number, group in enumerate(here)}
        same = all(
            [
                member and (numbers[member[0]], member[1]) if member and member[0] in numbers else None
                for member in one.members()
            ]
            == other.members()
            for path, axes in self.layouts.items()
            for one, other in zip(axes, there.layouts[path], strict=True)
        )
        of_here = [factors[group] for group in here] if factors else []
        single = [factors[group] for group in everywhere if group not in numbers] if factors else []
        of_self = [[numbers.get(group, -1) for group in scaled.groups] for scaled in self._taken_in(factors).values()]
        of_there = [[*scaled.groups] for scaled in there._taken_in(of_here).values()]
        # In another order, kernels may take in other channels, and rescale these instead.
        same = same and sorted(map(sorted, of_self)) == sorted(map(sorted, of_there))
        if not same or any(map(_changes, single)) or not there._has(form, train, masked, of_here):
            raise InputError(f"{said}; {remedy}")
        return there, here

    def _has(self, form: Form, train: bool, masked: bool, factors: Sequence[Any]) -> bool:
        """Whether a call of this form has the steps that are exchanged, where they are here."""
        return all(form.get(key) == self.forms[train][key] for key in self.exchanged_by_form(train, masked, factors))

    def exchanged_by_form(self, train: bool, masked: bool, factors: Sequence[Any]) -> list[Key]:
        """What has to be as in the trace for `exchanges` to be right; random numbers are known by their order alone.

        Args:
          train: In training or in evaluation.
          masked: Whether dropped filters are there, at zero.
          factors: As for `exchanges`.
        """
        actions = (None, *self.actions[train]) if masked and self.actions[train] else ()
        kernels = self._taken_in(factors).items() if train else ()
        return [*actions, *((place, scaled.operand) for place, scaled in kernels)]

    def _taken_in(self, factors: Sequence[Any]) -> dict[Place, Scaled]:
        """The operands that such factors change."""
        changed = {group for group, factor in enumerate(factors) if _changes(factor)}
        return {place: scaled for place, scaled in self.takes_in.items() if scaled.groups & changed and scaled.in_reach}

    def exchanges(
        self, train: bool, kept: Kept | None, part: Kept | None = None, factors: Sequence[Any] = ()
    ) -> dict[Place, Exchange]:
        """What `exchanged` exchanges in a call of the network, traced with names of layers (`with_names`).

        Args:
          train: In training or in evaluation.
          kept: In masked execution, the filters that are not at zero; None: all are there.
          part: In compact execution, for each group int [width], the filters of the whole network that this one has. Its
            random numbers are theirs. None: it is the whole network, or draws others.
          factors: In training, how many times what products take in of each group counts. Empty: once.
        """
        actions = {} if kept is None else dict(self.actions[train])
        for place, scaled in self._taken_in(factors).items() if train else ():
            actions[place] = (*actions.get(place, ()), scaled.by(factors))
        exchanges = acting(actions, self.full_widths, None if kept is None else self.masks(kept))
        if part is not None and self.draws[train]:
            whole = self.narrowed_from or self.full_widths
            # A group that keeps all its filters keeps them in their own order.
            ordered = [
                jnp.arange(count) if len(chosen) == count else chosen for chosen, count in zip(part, whole, strict=True)
            ]
            exchanges |= drawing(self.draws[train], ordered)
        return exchanges


def _changes(factor: Any) -> bool:
    return not isinstance(factor, float) or factor != 1.0
