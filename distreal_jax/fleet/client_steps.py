"""The steps that clients train, as functions to be compiled: one for masks, and compact one for each padded width vector.

A compact program may be wider, and train more layers, than the entries that it serves: widths are padded up to a multiple
of `WIDTH_STEP`, and what is surplus is masked inside. On a CPU, a convolution of 11 of 16 filters is slower than one of 12,
and one of 15 slower than one of 16 (docs/benchmarks.md); everywhere, entries that are padded to the same widths share a
program and its compilation.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from distreal_jax.methods import Method
from distreal_jax.step import Examples, Knobs, Learner, LocalStep
from distreal_jax.table import Configurations
from distreal_jax.tracing import TracedNetwork, draw_filters, draw_masks, draw_within

WIDTH_STEP = 4  # filters
# Chosen by us: a program also serves entries of which it computes at most so many times the MACs. What is left out of 853 of
# 1000 MACs of ResNet-20 saves 1 % of the time, and of 457 of 565 it saves 8 % (docs/benchmarks.md).
NEARLY = 1.2


class RoundKeys(NamedTuple):
    """Where the random numbers of devices come from: named by role, so that nothing depends on order or chunking."""

    filters: jax.Array
    layers: jax.Array

    @classmethod
    def of(cls, seed: int | jax.Array, round_index: int | jax.Array) -> "RoundKeys":
        """The keys of a round; `seed` and `round_index` are single numbers, [] if they are arrays."""
        root = jax.random.key(seed)
        return cls(*(jax.random.fold_in(jax.random.fold_in(root, role), round_index) for role in range(2)))

    def filter_key(self, method: Method, client: jax.Array | int, step: jax.Array | int) -> jax.Array:
        """The key, a scalar, of a client's draw of filters for a step.

        Args:
          method: If it draws filters once a round, all steps have the same key.
          client: Number of the device, [].
          step: Number of the mini-batch in the round, [].
        """
        return jax.random.fold_in(jax.random.fold_in(self.filters, client), step if method.drawn == "step" else 0)

    def layer_key(self, client: jax.Array | int, step: jax.Array | int) -> jax.Array:
        """The key, a scalar, of the network's own random layers, for a client [] and a step []."""
        return jax.random.fold_in(jax.random.fold_in(self.layers, client), step)


class RoundData(NamedTuple):
    """What all clients of a round have in common."""

    params: Any  # the global parameters
    scores: tuple[jax.Array, ...]  # of filters, for methods that choose by these
    examples: Examples
    keys: RoundKeys
    round_index: jax.Array


class ClientStep(NamedTuple):
    """Which step of which client is trained; leaves [chunk, ...] for a chunk of clients."""

    client: jax.Array
    number: jax.Array
    batch: jax.Array  # int [batch], examples
    entry: jax.Array  # of the table
    classes: jax.Array | None  # bool [classes], for a masked loss


StepProgram = Callable[[RoundData, Learner, ClientStep], tuple[Learner, jax.Array]]


class CompactProgram(NamedTuple):
    """What is compiled, and the table entries that run in it."""

    widths: tuple[int, ...]  # [groups]
    depth: int  # layers before the first that is trained
    examples: int | None  # of a mini-batch; None: all
    entries: tuple[int, ...]


def compact_programs(
    network: TracedNetwork, configurations: Configurations, examples: npt.NDArray[np.int64] | None
) -> list[CompactProgram]:
    """The programs that serve a table, each entry by one.

    Args:
      network: The traced network.
      configurations: Of the table's entries.
      examples: int [entries], examples of a mini-batch that each entry trains; None: all.
    """
    full = np.array(network.full_widths, dtype=np.int64)
    padded = np.minimum(-(-configurations.widths // WIDTH_STEP) * WIDTH_STEP, full)
    macs = network.training_macs_of_many(padded, configurations.depths)
    programs: list[CompactProgram] = []
    for entry in np.argsort(-macs, kind="stable"):
        count, depth = None if examples is None else int(examples[entry]), int(configurations.depths[entry])
        for number, program in reversed(list(enumerate(programs))):  # the last are the cheapest
            holds = program.examples == count and program.depth <= depth and np.all(program.widths >= padded[entry])
            if holds and macs[program.entries[0]] <= NEARLY * macs[entry]:
                programs[number] = program._replace(entries=(*program.entries, int(entry)))
                break
        else:
            programs.append(CompactProgram(tuple(map(int, padded[entry])), depth, count, (int(entry),)))
    return [program._replace(entries=tuple(sorted(program.entries))) for program in programs]


def _knobs(configurations: Configurations, entry: jax.Array, depth: int, entries: Sequence[int]) -> Knobs:
    """What an entry chooses beside filters and examples, in a program of this depth that serves these entries."""
    depths, factors = configurations.depths[list(entries)], configurations.step_factors[list(entries)]
    return Knobs(
        depth,
        None if np.all(depths == depth) else jnp.asarray(configurations.depths)[entry],
        None if np.all(factors == 1) else jnp.asarray(configurations.step_factors, jnp.float32)[entry],
    )


def masked_program(
    step: LocalStep, method: Method, configurations: Configurations, examples: npt.NDArray[np.int64] | None
) -> StepProgram:
    """The step of one client at full shapes, for every entry of the table.

    Args:
      step: The training step.
      method: Says which filters are kept.
      configurations: Of the table's entries.
      examples: Of a mini-batch that each entry trains, [entries]; None: all.
    """

    def masked(data: RoundData, learner: Learner, chosen: ClientStep) -> tuple[Learner, jax.Array]:
        key = data.keys.filter_key(method, chosen.client, chosen.number)
        widths = jnp.asarray(configurations.widths)[chosen.entry]
        kept = draw_masks(method.filters, key, data.round_index, step.network, widths, data.scores)
        index = chosen.batch
        if examples is not None:  # repeated until the mini-batch is full, they have the same mean
            index = index[jnp.arange(len(index)) % jnp.asarray(examples)[chosen.entry]]
        batch = data.examples.batch(index, chosen.classes)
        knobs = _knobs(configurations, chosen.entry, 0, range(len(configurations.depths)))
        return step.masked(learner, data.params, batch, data.keys.layer_key(chosen.client, chosen.number), kept, knobs)

    return masked


def compact_program(step: LocalStep, method: Method, configurations: Configurations, program: CompactProgram) -> StepProgram:
    """The step of one client at the widths of a program, for the entries that it serves.

    Args:
      step: The training step.
      method: Says which filters are kept.
      configurations: Of the table's entries.
      program: Its widths and entries.
    """
    network, widths = step.network, configurations.widths

    def compact(data: RoundData, learner: Learner, chosen: ClientStep) -> tuple[Learner, jax.Array]:
        key = data.keys.filter_key(method, chosen.client, chosen.number)
        batch = data.examples.batch(chosen.batch[: program.examples], chosen.classes)
        layer_key = data.keys.layer_key(chosen.client, chosen.number)
        knobs = _knobs(configurations, chosen.entry, program.depth, program.entries)
        if np.all(widths[list(program.entries)] == program.widths):
            kept = draw_filters(method.filters, key, data.round_index, network, program.widths, data.scores)
            return step.compact(learner, data.params, batch, layer_key, kept, knobs)
        kept_of_entry = jnp.asarray(widths)[chosen.entry]
        within, masks = draw_within(
            method.filters, key, data.round_index, network, kept_of_entry, program.widths, data.scores
        )
        return step.masked_within(learner, data.params, batch, layer_key, within, masks, knobs)

    return compact


def for_chunk(program: StepProgram, chunk: int) -> StepProgram:
    """The program over a chunk of clients; one client alone is not vmapped, which would batch its products."""
    if chunk > 1:
        return jax.vmap(program, in_axes=(None, 0, 0))

    def alone(data: RoundData, learner: Learner, chosen: ClientStep) -> tuple[Learner, jax.Array]:
        first = jax.tree.map(lambda leaf: leaf[0], (learner, chosen))
        after: tuple[Learner, jax.Array] = jax.tree.map(lambda leaf: leaf[None], program(data, *first))
        return after

    return alone
