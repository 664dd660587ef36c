"""The compiled programs of a round, each on the leaves of its trees: jit takes tuples in C++, trees of variables in Python.

*start* makes the learners of a block, a numbered program trains some steps of some of its clients, *add first* and *add* add
clients to the sums of their group, *add up* adds groups, and *finish* lets the server take its step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from distreal_jax.fleet.aggregation import (
    Server,
    Sums,
    from_rows,
    in_rows,
    no_clients,
    rows_of_classes,
    server_step,
    sums_of,
)
from distreal_jax.fleet.client_steps import (
    ClientStep,
    CompactProgram,
    RoundData,
    RoundKeys,
    StepProgram,
    compact_program,
    compact_programs,
    for_chunk,
    masked_program,
)
from distreal_jax.fleet.lanes import as_here, compiling_threads
from distreal_jax.fleet.mappings import check_mappings, drop_programs, dropped
from distreal_jax.fleet.work import ClientWork, Grouping
from distreal_jax.methods import Method
from distreal_jax.signs import watched
from distreal_jax.step import Examples, Learner, LocalStep
from distreal_jax.table import Configurations
from distreal_jax.tracing import draw_masks
from distreal_jax.tracing.filters import next_scores

Execution = Literal["masked", "compact"]
Moment = tuple[Any, Any]  # seed and round, uint32
Leaves = tuple[jax.Array, ...]  # of a tree
Carry = tuple[Learner, jax.Array]  # of a block: what its clients train, and the sums of their losses
Name = int | Literal["start", "add first", "add", "add up", "finish"]  # of a program; the number of one that trains


class RoundResult(NamedTuple):
    """What a round reports; still on the device."""

    loss: jax.Array  # mean over the clients that were averaged; 0 if none
    clients: jax.Array  # that were averaged
    left_out: jax.Array  # whose update was not finite, or who have no data


class Here(NamedTuple):
    """What programs work on, on one device; or the shapes of it."""

    server: Server
    params: Leaves  # of the server's parameters and scores
    data: Examples
    work: ClientWork  # of a block
    hyperparameters: list[Any] | None  # of the devices' optimiser


class _Trees(NamedTuple):
    """How trees are put together from their leaves."""

    params: Any
    carry: Any
    sums: Any


@dataclasses.dataclass(frozen=True)
class RoundPrograms:
    """The programs of a round; attributes as of `Round`."""

    step: LocalStep
    method: Method
    configurations: Configurations
    optimizer: optax.GradientTransformation
    execution: Execution
    grouping: Grouping
    examples: npt.NDArray[np.int64] | None = None
    class_axes: Any | None = None

    @functools.cached_property
    def compact_programs(self) -> list[CompactProgram]:
        """What is compiled of training steps, in compact execution."""
        return compact_programs(self.step.network, self.configurations, self.examples)

    @functools.cached_property
    def of_entries(self) -> npt.NDArray[np.int64]:
        """The number of the program that trains each table entry, [entries]."""
        numbers = np.zeros(len(self.configurations.depths), dtype=np.int64)
        if self.execution == "compact":
            for number, program in enumerate(self.compact_programs):
                numbers[list(program.entries)] = number
        return numbers

    @functools.cached_property
    def jitted(self) -> dict[Name, Any]:
        """The programs that have been needed so far."""
        return {}

    @functools.cached_property
    def _compiled(self) -> dict[tuple[Name, jax.Device], int]:
        """What has been compiled, and how many times programs had been dropped before."""
        return {}

    def compile(self, needed: set[Name], places: dict[jax.Device, Here], moment: Moment) -> None:
        """Compiles the programs that are needed and not there yet, side by side.

        Args:
          needed: Their names.
          places: What they work on, on each device.
          moment: Seed and round.

        Raises:
          InputError: There is no room for so many.
        """
        wanted = [(name, place) for place in places for name in sorted(needed, key=str)]
        if all(self._compiled.get(key) == dropped() for key in wanted):
            return
        drop_programs()
        missing = [key for key in wanted if self._compiled.get(key) != dropped()]
        trees = self._trees(next(iter(places.values())))
        self.jitted.update({name: self._jitted(name, trees) for name, _ in missing if name not in self.jitted})

        def compile_one(key: tuple[Name, jax.Device]) -> None:
            name, place = key
            check_mappings()
            self.lowered(name, places[place], place, moment).compile()

        compiling = compiling_threads().map(as_here(compile_one), missing)
        for _ in watched(compiling, len(missing), "compiled", "program"):
            pass
        self._compiled.update(dict.fromkeys(missing, dropped()))

    def lowered(self, name: Name, here: Here, place: jax.Device, moment: Moment) -> jax.stages.Lowered:
        """A program, lowered for a device, which need not be present.

        Args:
          name: Of the program.
          here: What it works on, or the shapes of it.
          place: The device.
          moment: The round.
        """
        if name not in self.jitted:
            self.jitted[name] = self._jitted(name, self._trees(here))
        lowered: jax.stages.Lowered = self.jitted[name].lower(*self._arguments(name, here, place, moment))
        return lowered

    def _trees(self, here: Here) -> _Trees:
        server, _, _, work, hyperparameters = here
        return _Trees(
            jax.tree.structure((server.params, server.scores)),
            jax.tree.structure(jax.eval_shape(self._start, server.params, work, hyperparameters)),
            jax.tree.structure(jax.eval_shape(self._nobody, server.params)),
        )

    def shape_of_sums(self, params: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and types of the leaves of the sums over clients of these parameters."""
        return tuple(jax.tree.leaves(jax.eval_shape(self._nobody, params)))

    def _arguments(self, name: Name, here: Here, place: jax.Device, moment: Moment) -> tuple[Any, ...]:
        """The shapes that a program is called with."""
        where = jax.sharding.SingleDeviceSharding(place)

        def like(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype, sharding=where), tree)

        server, params, data, work, hyperparameters = like(here)
        carry = like(tuple(jax.tree.leaves(jax.eval_shape(self._start, server.params, work, hyperparameters))))
        sums = like(self.shape_of_sums(server.params))
        slots, number = np.zeros(self.grouping.chunk, np.int32), np.int32(0)
        if isinstance(name, int):
            return carry, params, data, work, slots, slots, number, moment
        of_add = (carry, params, work, number, number, moment)
        arguments: dict[Name, tuple[Any, ...]] = {
            "start": (params, work, hyperparameters),
            "add first": of_add,
            "add": (sums, *of_add),
            "add up": (sums, sums),
            "finish": (server, sums),
        }
        return arguments[name]

    def _jitted(self, name: Name, trees: _Trees) -> Any:
        """A program on the leaves of its trees, whose structure stays the same in all rounds."""
        params_of, carry_of, sums_from = (functools.partial(jax.tree.unflatten, tree) for tree in trees)

        def start(params: Leaves, work: ClientWork, hyperparameters: list[Any] | None) -> Leaves:
            return _leaves(self._start(params_of(params)[0], work, hyperparameters))

        def add_first(carry: Leaves, params: Leaves, *others: Any) -> Leaves:
            given = params_of(params)
            return _leaves(self._add(self._nobody(given[0]), carry_of(carry), *given, *others))

        def add(sums: Leaves, carry: Leaves, params: Leaves, *others: Any) -> Leaves:
            return _leaves(self._add(sums_from(sums), carry_of(carry), *params_of(params), *others))

        def add_up(one: Leaves, other: Leaves) -> Leaves:
            return _leaves(sums_from(one) + sums_from(other))

        def finish(server: Server, sums: Leaves) -> tuple[Server, RoundResult]:
            return self._finish(server, sums_from(sums))

        if isinstance(name, int):
            program = for_chunk(self._step_program(name), self.grouping.chunk)

            def steps(carry: Leaves, params: Leaves, *others: Any) -> Leaves:
                return _leaves(self._steps(program, carry_of(carry), *params_of(params), *others))

            return jax.jit(steps, donate_argnums=0)
        functions: dict[Name, Callable[..., Any]] = {
            "start": start,
            "add first": add_first,
            "add": add,
            "add up": add_up,
            "finish": finish,
        }
        function = functions[name]
        return jax.jit(function, donate_argnums=0) if name in ("add", "add up", "finish") else jax.jit(function)

    def _step_program(self, number: int) -> StepProgram:
        step = self.step.for_many() if self.grouping.chunk > 1 else self.step
        if self.execution == "masked":
            return masked_program(step, self.method, self.configurations, self.examples)
        return compact_program(step, self.method, self.configurations, self.compact_programs[number])

    def _start(self, params: Any, work: ClientWork, hyperparameters: list[Any] | None) -> Carry:
        """The learners of a block, and the sums of their losses."""
        block, learner = len(work.clients), self.step.start(params, hyperparameters)
        learners = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (block, *leaf.shape)), learner)
        return learners, jnp.zeros(block, jnp.float32)

    def _nobody(self, params: Any) -> Sums:
        return no_clients(in_rows(params), covered=self.method.average == "covered")

    def _finish(self, server: Server, sums: Sums) -> tuple[Server, RoundResult]:
        clients, network = jnp.maximum(sums.clients, 1.0), self.step.network
        sums = sums._replace(changes=from_rows(sums.changes, server.params))
        if self.method.average == "covered":
            sums = sums._replace(weights=from_rows(sums.weights, server.params))
        after = server_step(server, sums, self.optimizer)
        scores = next_scores(self.method.filters, network, after.params, server.params, server.scores)
        return after._replace(scores=scores), RoundResult(sums.loss / clients, sums.clients, sums.left_out)

    def _steps(
        self,
        program: StepProgram,
        carry: Carry,
        params: Any,
        scores: tuple[jax.Array, ...],
        data: Examples,
        work: ClientWork,
        slots: jax.Array,
        first: jax.Array,
        count: jax.Array,
        moment: Moment,
    ) -> Carry:
        """Some steps of some clients of a block; the clients that take none keep their bits."""
        block = self.grouping.block
        common = RoundData(params, scores, data, RoundKeys.of(*moment), moment[1])
        active, places = slots < block, jnp.minimum(slots, block - 1)
        whole = self.grouping.chunk == block  # learners are used where they lie
        clients = jax.tree.map(lambda leaf: leaf[places], work)

        def one(number: jax.Array, carry: Carry) -> Carry:
            learners, losses = carry
            steps = first + number
            chosen = ClientStep(
                clients.clients,
                steps,
                jnp.take_along_axis(clients.batches, steps[:, None, None], axis=1)[:, 0],
                jnp.take_along_axis(clients.entries, steps[:, None], axis=1)[:, 0],
                clients.classes if self.method.masked_loss else None,
            )
            before = learners if whole else jax.tree.map(lambda leaf: leaf[places], learners)
            after, loss = program(common, before, chosen)
            if block == 1:
                return after, losses + loss
            if whole:
                after = jax.tree.map(
                    lambda new, old: jnp.where(active.reshape((-1,) + (1,) * (new.ndim - 1)), new, old), after, learners
                )
                return after, losses + jnp.where(active, loss, 0.0)
            learners = jax.tree.map(lambda leaf, new: leaf.at[slots].set(new, mode="drop"), learners, after)
            return learners, losses.at[slots].add(loss, mode="drop")

        trained: Carry = jax.lax.fori_loop(0, count, one, carry)
        return trained

    def _add(
        self,
        sums: Sums,
        carry: Carry,
        params: Any,
        scores: tuple[jax.Array, ...],
        work: ClientWork,
        begin: jax.Array,
        end: jax.Array,
        moment: Moment,
    ) -> Sums:
        """The sums with the clients of a block from one place to another, one after the other."""
        (trained, _), losses = carry
        keys, (_, round_index) = RoundKeys.of(*moment), moment
        before, after = in_rows(params), in_rows(trained, lead=1)

        def add(place: jax.Array, sums: Sums) -> Sums:
            def alone(tree: Any) -> Any:
                return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, place, 1), tree)

            client = alone(work)
            steps_done = (client.entries >= 0).sum(axis=1)
            covered = self._coverage(params, scores, client, keys, round_index)
            return sums + sums_of(
                before,
                alone(after),
                steps_done > 0,
                client.weights,
                alone(losses) / jnp.maximum(steps_done, 1),
                coverage=None if covered is None else in_rows(covered, lead=1),
                lengths=client.lengths if self.method.average == "normalised" else None,
            )

        added: Sums = jax.lax.fori_loop(begin, end, add, sums)
        return added

    def _coverage(
        self, params: Any, scores: tuple[jax.Array, ...], work: ClientWork, keys: RoundKeys, round_index: jax.Array
    ) -> Any | None:
        """For the covered mean, what each client trained: that of its dearest step, as all its steps train nested sets."""
        if self.method.average != "covered":
            return None
        network = self.step.network

        def covered(client: jax.Array, entries: jax.Array, classes: jax.Array | None) -> Any:
            dearest = jnp.maximum(entries.max(), 0)
            widths, depth = (jnp.asarray(each)[dearest] for each in (self.configurations.widths, self.configurations.depths))
            key = keys.filter_key(self.method, client, 0)
            kept = draw_masks(self.method.filters, key, round_index, network, widths, scores)
            trained = network.mask(jax.tree.map(jnp.ones_like, params), kept)
            if np.any(self.configurations.depths):
                trained = network.select_trained(depth, trained, jax.tree.map(jnp.zeros_like, params))
            return trained if classes is None else rows_of_classes(trained, self.class_axes, classes)

        classes = None if self.class_axes is None or work.classes is None else jnp.asarray(work.classes)
        return jax.vmap(covered)(jnp.asarray(work.clients), jnp.asarray(work.entries), classes)


def _leaves(tree: Any) -> Leaves:
    return tuple(jax.tree.leaves(tree))
