"""One federated round as one compiled program: the plan goes in as data, no value comes back to the host on the way."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distreal_jax.errors import InputError
from distreal_jax.fleet.aggregation import Server, Sums, no_clients, server_step, sums_of
from distreal_jax.fleet.work import ClientWork, Grouping, Items, in_blocks, items_of
from distreal_jax.methods import Method
from distreal_jax.step import Examples, Learner, LocalStep, in_full_precision
from distreal_jax.tracing import draw_filters, draw_masks

Execution = Literal["masked", "compact"]
Moment = tuple[jax.Array, jax.Array]  # seed and round
CLIENTS = "clients"  # the axis of the mesh


class RoundKeys(NamedTuple):
    """Where the random numbers of devices come from: named by role, so that nothing depends on order or chunking."""

    filters: jax.Array
    layers: jax.Array

    @classmethod
    def of(cls, seed: int | jax.Array, round_index: int | jax.Array) -> "RoundKeys":
        """The keys of a round."""
        root = jax.random.key(seed)
        return cls(*(jax.random.fold_in(jax.random.fold_in(root, role), round_index) for role in range(2)))

    def filter_key(self, method: Method, client: jax.Array | int, step: jax.Array | int) -> jax.Array:
        """The key of a client's draw of filters for a step, the same for all steps if it is drawn once a round."""
        return jax.random.fold_in(jax.random.fold_in(self.filters, client), step if method.drawn == "step" else 0)

    def layer_key(self, client: jax.Array | int, step: jax.Array | int) -> jax.Array:
        """The key of the network's own random layers."""
        return jax.random.fold_in(jax.random.fold_in(self.layers, client), step)


class RoundResult(NamedTuple):
    """What a round reports; still on the device."""

    loss: jax.Array  # mean over the clients that were averaged; 0 if none
    clients: jax.Array  # that were averaged
    left_out: jax.Array  # whose update was not finite, or who have no data


def default_grouping(execution: Execution, platform: str, clients: int, shards: int = 1) -> Grouping:
    """The grouping that measures best; `experiments/benchmark.py` prints the figures behind it.

    A CPU trains one client after the other on each of its devices: nothing is gained by vmapping and caches overflow. An
    accelerator is filled by vmapping many.
    """
    if platform == "cpu":
        return Grouping(1, 1, by_entry=execution == "compact", shards=shards)
    share = -(-clients // shards)
    block = min(share, 256)  # chosen by us: bounds memory
    return Grouping(block, min(block, 16) if execution == "compact" else block, execution == "compact", shards)


@dataclasses.dataclass(frozen=True)
class Round:
    """The compiled round of one method with one table.

    Attributes:
      step: A device's training step.
      method: Which filters are kept, when they are drawn, and how the server averages.
      widths: int [entries, groups], the table.
      optimizer: The server's optimiser.
      execution: `masked` or `compact`.
      grouping: How clients are shared out.
      seed: Of the devices' draws; the program is the same for all seeds, so a compilation cache serves them all.
      examples: int [entries], how many examples of a mini-batch each entry trains, a divisor of its size; None: all.
      class_axes: `class_axes` of the network, for methods that average rows of the classifier over who has their class.
    """

    step: LocalStep
    method: Method
    widths: npt.NDArray[np.int64]
    optimizer: optax.GradientTransformation
    execution: Execution
    grouping: Grouping
    seed: int
    examples: npt.NDArray[np.int64] | None = None
    class_axes: Any | None = None

    def __post_init__(self) -> None:
        if self.grouping.by_entry != (self.execution == "compact"):
            raise InputError("clients are grouped by entry in compact execution and only there")
        if self.grouping.shards > len(jax.devices()):
            raise InputError(f"{self.grouping.shards} shards need as many devices; there are {len(jax.devices())}")

    def start(self, params: Any) -> Server:
        """The server's state before the first round, on every device that trains, where rounds leave it as well."""
        return self.on_every_device(Server(params, self.optimizer.init(in_full_precision(params))))

    def on_every_device(self, tree: Any) -> Any:
        """The tree on every device that trains: what lies on one alone is copied again in each round."""
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def run(self, server: Server, data: Examples, work: ClientWork, round_index: int) -> tuple[Server, RoundResult]:
        """Runs a planned round; `server`'s buffers are given away.

        Args:
          server: The state before the round.
          data: The training set.
          work: What the clients train, axes [clients].
          round_index: The round.
        """
        blocks = in_blocks(work, self.grouping)
        items = items_of(blocks.entries, self.grouping, len(self.widths))
        after: tuple[Server, RoundResult] = self._compiled(
            server, data, blocks, items, (np.uint32(self.seed), np.uint32(round_index))
        )
        return after

    def compilations(self) -> int:
        """How many times the round has been compiled."""
        return int(self._compiled._cache_size())

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(jax.devices()[: self.grouping.shards]), (CLIENTS,))

    @functools.cached_property
    def _compiled(self) -> Any:
        return jax.jit(self._round, donate_argnums=0)

    def _round(
        self, server: Server, data: Examples, work: ClientWork, items: Items, moment: Moment
    ) -> tuple[Server, RoundResult]:
        everywhere, shared_out = PartitionSpec(), PartitionSpec(CLIENTS)
        sums: Sums = jax.shard_map(
            self._sums,
            mesh=self._mesh,
            in_specs=(everywhere, everywhere, shared_out, shared_out, everywhere),
            out_specs=everywhere,
            check_vma=False,
        )(server.params, data, work, items, moment)
        clients = jnp.maximum(sums.clients, 1.0)
        return server_step(server, sums, self.optimizer), RoundResult(sums.loss / clients, sums.clients, sums.left_out)

    def _sums(self, params: Any, data: Examples, work: ClientWork, items: Items, moment: Moment) -> Sums:
        """The sums over the clients of one device's blocks, then over all devices."""

        def add_block(sums: Sums, block: tuple[ClientWork, Items]) -> tuple[Sums, None]:
            return sums + self._train_block(params, data, *block, moment), None

        sums, _ = jax.lax.scan(add_block, no_clients(params, covered=self.method.average == "covered"), (work, items))
        total: Sums = jax.lax.psum(sums, CLIENTS)
        return total

    def _train_block(self, params: Any, data: Examples, work: ClientWork, items: Items, moment: Moment) -> Sums:
        block = self.grouping.block
        keys, (_, round_index) = RoundKeys.of(*moment), moment
        programs = [_vmapped(program, self.grouping.chunk) for program in self._programs(params, data, keys, round_index)]
        whole = self.grouping.chunk == block

        def run_item(carry: tuple[Learner, jax.Array], item: Items) -> tuple[tuple[Learner, jax.Array], None]:
            learners, losses = carry
            slots = jnp.minimum(item.slots, block - 1)
            # With one client or the whole block in an item, its learners are used where they lie.
            chosen = learners if whole else jax.tree.map(lambda leaf: leaf[slots], learners)
            client = jax.tree.map(lambda leaf: leaf[slots], work)
            arguments = (
                chosen,
                client.clients,
                item.steps,
                jnp.take_along_axis(client.batches, item.steps[:, None, None], axis=1)[:, 0],
                jnp.take_along_axis(client.entries, item.steps[:, None], axis=1)[:, 0],
                client.classes if self.method.masked_loss else None,
            )

            after, loss = self._one_of(programs, jnp.asarray(item.programs), arguments)
            active = item.slots < block
            if whole:
                if block > 1:
                    after = jax.tree.map(
                        lambda new, old: jnp.where(active.reshape((-1,) + (1,) * (new.ndim - 1)), new, old), after, learners
                    )
                return (after, losses + jnp.where(active, loss, 0.0)), None
            learners = jax.tree.map(lambda leaf, new: leaf.at[item.slots].set(new, mode="drop"), learners, after)
            return (learners, losses.at[item.slots].add(loss, mode="drop")), None

        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (block, *leaf.shape)), self.step.start(params))
        (trained, losses), _ = jax.lax.scan(run_item, (start, jnp.zeros(block, jnp.float32)), items)
        steps_done = (work.entries >= 0).sum(axis=1)
        return sums_of(
            params,
            trained.params,
            steps_done > 0,
            jnp.asarray(work.weights),
            losses / jnp.maximum(steps_done, 1),
            coverage=self._coverage(params, work, keys, round_index),
            lengths=jnp.asarray(work.lengths) if self.method.average == "normalised" else None,
        )

    def _one_of(
        self, programs: Sequence[Callable[..., Any]], which: jax.Array, arguments: tuple[Any, ...]
    ) -> tuple[Learner, jax.Array]:
        """Runs the program that is asked for, or none for -1: the learners and the losses after it."""
        learners, *others = arguments
        losses = jnp.zeros(self.grouping.chunk, jnp.float32)
        if self.grouping.block > 1:
            idle = lambda learners, *_: (learners, losses)  # noqa: E731
            return jax.lax.switch(which + 1, [idle, *programs], *arguments)
        # A conditional copies all weights on its way in and out on a CPU; a loop of one iteration or none works in place.
        # What a loop does not change, XLA computes before it: the draws and the mini-batch of every program, 60 % of a step
        # with 12 entries. So that they belong to the iteration, its number, which is 0, is added to what they depend on.
        for number, program in enumerate(programs):
            learners, losses = jax.lax.fori_loop(
                0,
                (which == number).astype(jnp.int32),
                lambda iteration, carry, program=program: program(carry[0], *_plus(others, iteration)),
                (learners, losses),
            )
        return learners, losses

    def _programs(
        self, params: Any, data: Examples, keys: RoundKeys, round_index: jax.Array
    ) -> list[Callable[..., tuple[Learner, jax.Array]]]:
        """The steps that an item of work may run, each for one client: one for masks, one for each entry compact."""
        network = self.step.network
        training = self.step.for_many() if self.grouping.chunk > 1 else self.step

        def masked(learner: Learner, client: Any, step: Any, index: Any, entry: Any, classes: Any) -> Any:
            key = keys.filter_key(self.method, client, step)
            widths = jnp.asarray(self.widths)[entry]
            kept = draw_masks(self.method.filters, key, round_index, network, widths)
            if self.examples is not None:  # repeated until the mini-batch is full, they have the same mean
                index = index[jnp.arange(len(index)) % jnp.asarray(self.examples)[entry]]
            return training.masked(learner, params, data.batch(index, classes), keys.layer_key(client, step), kept)

        def compact_at(widths: tuple[int, ...], examples: int | None) -> Callable[..., Any]:
            def compact(learner: Learner, client: Any, step: Any, index: Any, entry: Any, classes: Any) -> Any:
                key = keys.filter_key(self.method, client, step)
                kept = draw_filters(self.method.filters, key, round_index, network, widths)
                batch = data.batch(index[:examples], classes)
                return training.compact(learner, params, batch, keys.layer_key(client, step), kept)

            return compact

        if self.execution == "masked":
            return [masked]
        examples = [None] * len(self.widths) if self.examples is None else [int(count) for count in self.examples]
        return [compact_at(tuple(map(int, row)), count) for row, count in zip(self.widths, examples, strict=True)]

    def _coverage(self, params: Any, work: ClientWork, keys: RoundKeys, round_index: jax.Array) -> Any | None:
        """For the covered mean, what each client trained: that of its widest step, as all its steps keep nested sets."""
        if self.method.average != "covered":
            return None
        network = self.step.network

        def covered(client: jax.Array, entries: jax.Array, classes: jax.Array | None) -> Any:
            widths = jnp.asarray(self.widths)[jnp.maximum(entries.max(), 0)]
            kept = draw_masks(self.method.filters, keys.filter_key(self.method, client, 0), round_index, network, widths)
            trained = network.mask(jax.tree.map(jnp.ones_like, params), kept)
            return trained if classes is None else rows_of_classes(trained, self.class_axes, classes)

        classes = None if self.class_axes is None or work.classes is None else jnp.asarray(work.classes)
        return jax.vmap(covered)(jnp.asarray(work.clients), jnp.asarray(work.entries), classes)


def rows_of_classes(trained: Any, class_axes: Any, classes: jax.Array) -> Any:
    """What a client trained (1 or 0 for each element) without the rows of classes that it has no examples of."""

    def of_classes(leaf: jax.Array, axis: int) -> jax.Array:
        return leaf if axis < 0 else leaf * classes.reshape([-1 if a == axis else 1 for a in range(leaf.ndim)])

    return jax.tree.map(of_classes, trained, class_axes)


def _vmapped(program: Callable[..., Any], chunk: int) -> Callable[..., Any]:
    """The program over a chunk of clients; one client alone is not vmapped, which would batch its products."""
    if chunk > 1:
        return jax.vmap(program)

    def alone(*arguments: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], program(*jax.tree.map(lambda leaf: leaf[0], arguments)))

    return alone


def _plus(tree: Any, number: jax.Array) -> Any:
    """The tree with the number added to its integers."""
    return jax.tree.map(
        lambda leaf: leaf + number.astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf, tree
    )
