"""The benchmark's workloads, and rounds of them as this project and a loop in PyTorch run them.

A is the CIFAR-10 protocol of the pfl-research benchmarks (conv3x3x32 - conv3x3x64 - maxpool - dense128, 50 clients x 5 steps
of batch 10), B the LEAF CNN (10 clients x 5 steps of batch 20), resnet20 and densenet40 the CIFAR networks (10 clients x 2
steps of batch 20).
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from distreal_jax.availability import make_availability
from distreal_jax.data.datasets import synthetic_dataset
from distreal_jax.errors import InputError
from distreal_jax.experiment.speed import Time, speed_of_steps
from distreal_jax.fleet import ClientWork, Execution, Grouping, Round, client_work, default_grouping
from distreal_jax.fleet.client_steps import compact_programs
from distreal_jax.methods import METHODS
from distreal_jax.networks import make_network
from distreal_jax.plan import plan_round
from distreal_jax.settings import STEPS, Within
from distreal_jax.step import ConvolutionForm, LocalStep, split_variables
from distreal_jax.table import DropoutTable
from distreal_jax.tracing import TracedNetwork, trace_network

MANY = Within(0, 10**6)  # chosen by us
WorkloadName = Literal["A", "B", "resnet20", "densenet40"]
_BEFORE = 2  # rounds that are not timed: one that compiles and one that warms up


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is trained in a round."""

    image_shape: tuple[int, int, int]
    num_classes: int
    clients: int
    steps: int
    batch_size: int


WORKLOADS = {
    "A": Workload((32, 32, 3), 10, clients=50, steps=5, batch_size=10),
    "B": Workload((28, 28, 1), 62, clients=10, steps=5, batch_size=20),
    "resnet20": Workload((32, 32, 3), 10, clients=10, steps=2, batch_size=20),
    "densenet40": Workload((32, 32, 3), 10, clients=10, steps=2, batch_size=20),
}


@dataclasses.dataclass(frozen=True)
class RoundChoice:
    """Which rounds are timed."""

    workload: WorkloadName = "A"
    """What is trained."""
    keep: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Fraction of each group's filters, dense units included, that all clients train."""
    examples: Annotated[int, Within(0, 10**5)] = 0
    """Examples of each mini-batch that clients train, a divisor of its size; 0: all."""
    plan: bool = False
    """A DISTREAL round under load instead: 12 entries, availability uniform in [0.05, 1], redrawn 3 times a round."""
    execution: Execution = "compact"
    """compact: what is dropped is not computed; masked: full shapes."""
    convolution: ConvolutionForm = "platform"
    """folded: XLA's in the layout that is fast in loops on a CPU; patches: patches times matrix; library: XLA's own."""
    clients: Annotated[int, MANY] = 0
    """Clients of a round; 0: the workload's."""
    block: Annotated[int, MANY] = 0
    """Clients whose weights are held at once; 0: the platform's default."""
    chunk: Annotated[int, MANY] = 0
    """Clients that are vmapped; 0: the platform's default."""
    rounds: Annotated[int, STEPS] = 7
    """Rounds that are timed, after one that compiles and one that warms up."""


class WorkloadA(nnx.Module):
    """The CNN of the pfl-research CIFAR-10 benchmark."""

    def __init__(self, num_classes: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(3, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(14 * 14 * 64, 128, rngs=rngs)
        self.classifier = nnx.Linear(128, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """[batch, 32, 32, 3] to [batch, classes]."""
        x = nnx.relu(self.conv2(nnx.relu(self.conv1(images))))
        x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.classifier(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


def network_of(name: str, workload: Workload) -> tuple[nnx.Module, TracedNetwork]:
    """The workload's network, traced.

    Args:
      name: Of the workload.
      workload: Its image shape and classes.
    """
    if name == "A":
        model: nnx.Module = WorkloadA(workload.num_classes, rngs=nnx.Rngs(0))
    else:
        known = {"B": "leaf_cnn"}.get(name, name)
        model = make_network(known, image_shape=workload.image_shape, num_classes=workload.num_classes, seed=0)
    return model, trace_network(model, jax.ShapeDtypeStruct((1, *workload.image_shape), jnp.float32))


def table_of(options: RoundChoice, network: TracedNetwork) -> DropoutTable:
    """One entry at the width asked for, or the 12 of a DISTREAL round.

    Args:
      options: The round.
      network: The traced network.
    """
    if options.plan:
        return DropoutTable.uniform(network, [1 - level / 12 for level in range(1, 13)])
    return DropoutTable.from_widths(network, [[max(1, round(count * options.keep)) for count in network.full_widths]])


def work_of(options: RoundChoice, workload: Workload, table: DropoutTable, round_index: int) -> ClientWork:
    """What the clients do in a round: every step at the one width, or what the load allows.

    Args:
      options: The round.
      workload: Its clients, steps and batch size.
      table: Of the round.
      round_index: Names the load and the examples.
    """
    clients = options.clients or workload.clients
    numbers = np.arange(clients)
    load = make_availability("redrawn:0.05,1,3" if options.plan else "constant:1", seed=0, num_devices=clients)
    costs = table.costs() if options.plan else [1.0]
    plan = plan_round(METHODS["distreal"], costs, load, numbers, round_index=round_index, steps=workload.steps, seed=0)
    generator = np.random.default_rng(round_index)
    shape = (clients, workload.steps, workload.batch_size)
    return client_work(plan, generator.integers(0, 1000, shape, dtype=np.int32), np.ones(clients), by_steps=False)


class OurRounds:
    """The rounds of a choice as this project runs them."""

    def __init__(self, options: RoundChoice) -> None:
        execution = options.execution
        self.workload = workload = WORKLOADS[options.workload]
        clients = options.clients or workload.clients
        model, self.network = network_of(options.workload, workload)
        params, others = split_variables(model)
        self.table = table_of(options, self.network)
        data = synthetic_dataset(
            num_examples=1000, image_shape=workload.image_shape, num_classes=workload.num_classes, seed=0
        )
        lanes = jax.local_device_count()
        grouping = default_grouping(execution, jax.default_backend(), clients, lanes, jax.device_count())
        if options.block or options.chunk:
            block = options.block or options.chunk
            by_entry = execution == "compact"
            grouping = Grouping(block, (options.chunk or block) if by_entry else block, by_entry, lanes)
        step = LocalStep(self.network, optax.sgd(0.1), others, convolution=options.convolution)
        self.widths = np.array([entry.widths for entry in self.table.entries])
        self.examples = options.examples or workload.batch_size
        examples = np.full(len(self.widths), self.examples) if options.examples else None
        self.program = Round(
            step, METHODS["distreal"], self.table.configurations, optax.sgd(1.0), execution, grouping, 0, examples
        )
        self.images = self.program.placed(jax.tree.map(jnp.asarray, data.train))
        self.server = self.program.start(jax.tree.map(jnp.array, params))
        self.works = [work_of(options, workload, self.table, index) for index in range(_BEFORE + options.rounds)]

    def warm_up(self) -> None:
        """A round that trains every entry of the table, so that every program is compiled."""
        work = self.works[0]
        entries = np.resize(np.arange(len(self.table.entries), dtype=np.int32), work.entries.shape)
        self.server, _ = jax.block_until_ready(self.program.run(self.server, self.images, work._replace(entries=entries), 0))

    def timed(self, turn: int) -> float:
        """Seconds of a round for each client-step, in the turn-th round that is timed.

        Args:
          turn: From 0.
        """
        return self.seconds_of(_BEFORE + turn)

    def seconds_of(self, index: int) -> float:
        """Seconds of a round for each client-step, the rounds that are not timed among them.

        Args:
          index: From 0.
        """
        begin = time.perf_counter()
        self.server, _ = jax.block_until_ready(self.program.run(self.server, self.images, self.works[index], index))
        return (time.perf_counter() - begin) / int((self.works[index].entries >= 0).sum())

    def macs_per_step(self) -> float:
        """Of the steps of the rounds that are timed, forward and backward, on average."""
        used = np.concatenate([work.entries[work.entries >= 0] for work in self.works[_BEFORE:]])
        return self.examples * float(self.table.configurations.macs(self.network)[used].mean())

    def estimated(self) -> Time:
        """How long all rounds take, with compilation; nothing is compiled for it."""
        step, entries, masked = self.program.step, self.table.entries, self.program.execution == "masked"
        part = self.examples / self.workload.batch_size
        cheapest = dataclasses.replace(entries[0], batch_share=part)
        data, clients = next(iter(self.images.values())), len(self.works[0].clients)
        speed = speed_of_steps(
            step, self.server.params, data, self.workload.batch_size, cheapest, masked=masked, clients=clients
        )
        steps = np.bincount(np.concatenate([work.entries[work.entries >= 0] for work in self.works]), minlength=len(entries))
        macs = [1.0 if masked else part * entry.macs / self.network.training_macs() for entry in entries]
        programs = 1 if masked else len(compact_programs(self.network, self.table.configurations, self.program.examples))
        training = float(steps @ speed.of_mini_batches(macs))
        return Time(speed.compiling(programs, 0), training, programs=programs, origin=speed.origin)


def by_turns(timed: Mapping[str, Callable[[int], float]], turns: int) -> dict[str, list[float]]:
    """Seconds of each in every turn, [turns]: once in order, once in reverse order, and so on.

    Args:
      timed: By name, a function of the turn that gives seconds.
      turns: How many.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(turns):
        for name in timed if turn % 2 == 0 else reversed(list(timed)):
            seconds[name].append(timed[name](turn))
    return seconds


def pytorch_loops(options: RoundChoice, widths: dict[str, float]) -> dict[str, Callable[[int], float]]:
    """Loops over clients in PyTorch, in its own layout and with channels last; the model is copied for each client.

    Args:
      options: The workload and its clients; at most ten are trained.
      widths: Fractions of the filters that networks are built with, by name.

    Returns:
      Functions of the round's number that give seconds per client-step.

    Raises:
      InputError: There is no PyTorch.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise InputError("there is no PyTorch to compare with; install torch, or leave the comparison out") from None
    from distreal_jax.commands.pytorch_loop import loop_of

    workload = WORKLOADS[options.workload]
    sizes = dataclasses.replace(workload, clients=min(options.clients or workload.clients, 10))
    return {
        f"pytorch_{name}{layout}": loop_of(
            options.workload, sizes, keep, channels_last=bool(layout), threads=jax.device_count()
        )
        for name, keep in widths.items()
        for layout in ("", "_channels_last")
    }
