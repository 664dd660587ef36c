"""A federated run of one method in one world: plan a round, run it, evaluate."""

import dataclasses
import functools
import math
from collections.abc import Collection, Hashable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from distreal_jax import processes
from distreal_jax.data.sampling import batch_indices, sample_clients
from distreal_jax.errors import InputError
from distreal_jax.fleet.aggregation import Server
from distreal_jax.fleet.device_memory import DeviceMemory
from distreal_jax.fleet.evaluation import Evaluator, Scores
from distreal_jax.fleet.grouping import Room, default_grouping
from distreal_jax.fleet.method_table import full_cost
from distreal_jax.fleet.programs import Execution, RoundPrograms, RoundResult
from distreal_jax.fleet.round import Round
from distreal_jax.fleet.stages import Stages
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.work import ClientWork, Grouping, client_work
from distreal_jax.fleet.world import World
from distreal_jax.methods import Method, name_with
from distreal_jax.plan import RoundPlan, plan_round
from distreal_jax.step import ConvolutionForm, Examples, LocalStep, class_axes
from distreal_jax.table import DropoutTable
from distreal_jax.table.order import MACS
from distreal_jax.tracing import ensemble_members

MOST_EXAMPLES = 2**28  # that the clients of a round train on, chosen by us: 1 GiB of indices


@dataclasses.dataclass(frozen=True)
class Delivered:
    """A model that a method hands over.

    Attributes:
      widths: Of each of its members, [groups].
      members: More than one for an ensemble.
      share: MACs of all members, as a share of the full network's.
    """

    widths: tuple[int, ...]
    members: int
    share: float


@dataclasses.dataclass(frozen=True)
class Federation:
    """One method in one world.

    Attributes:
      world: What all methods share.
      method: The method.
      table: What its devices choose from (`table_for`).
      training: How devices and server train.
      execution: `compact` or `masked`.
      convolution: The form in which convolutions are computed.
      grouping: How clients are shared out; None: what measures best on this platform.
      compiled: Programs by what they were compiled for; a changed copy has none yet.
    """

    world: World
    method: Method
    table: DropoutTable
    training: TrainingSettings
    execution: Execution = "compact"
    convolution: ConvolutionForm = "platform"
    grouping: Grouping | None = None
    compiled: dict[Hashable, dict[Grouping, RoundPrograms]] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.training.devices_per_round > self.world.devices:
            raise InputError(
                f"{self.training.devices_per_round} devices per round of a population of {self.world.devices}; ask fewer"
            )
        by_classes = [name for name in ("masked_loss", "label_rows") if getattr(self.method, name)]
        if by_classes and self.world.task.num_classes is None:
            without = name_with(self.method.name, dict.fromkeys(by_classes, "false"))
            raise InputError(
                f"{self.method.name} trains by the classes that a device has, and the task has no classes; turn that off: "
                f'"{without}"'
            )
        training, examples = self.training, self.world.train.num_examples
        if training.batch_size > examples:
            raise InputError(f"a mini-batch of {training.batch_size} of {examples} training examples; give a smaller one")
        of_round = training.devices_per_round * training.steps * training.batch_size
        if of_round > MOST_EXAMPLES:
            raise InputError(f"a round of {of_round:,} examples, more than {MOST_EXAMPLES:,}; give fewer steps or devices")

    def __str__(self) -> str:
        training, table, data = self.training, self.table, self.world.dataset.name
        return (
            f"{self.method.name} on {data}, seed {self.world.seed}: {training.rounds:,} rounds of "
            f"{training.devices_per_round:,} of {self.world.devices:,} devices, {training.steps:,} mini-batches of "
            f"{training.batch_size:,}; a table of {len(table.entries)} entries, {self.execution} execution"
        )

    __repr__ = __str__

    def using(self, compiled: dict[Hashable, dict[Grouping, RoundPrograms]]) -> Self:
        """This federation with programs that it has in common with others.

        Trials that differ in learning rate, momentum and the server's rate need no programs of their own: these are data.
        """
        changed = dataclasses.replace(self)
        object.__setattr__(changed, "compiled", compiled)  # no argument, which a changed copy would take over
        return changed

    @functools.cached_property
    def round(self) -> Round:
        """The compiled round."""
        step = LocalStep(
            self.world.network,
            self.training.local_optimizer(),
            self.world.others,
            convolution=self.convolution,
            rescale=self._rescale,
            proximal=self._proximal,
            task=self.world.task,
        )
        grouping = self.grouping or self._default_grouping(step)
        optimizer = self.training.global_optimizer()
        own = Round(
            step,
            self.method,
            self.table.configurations,
            optimizer,
            self.execution,
            grouping,
            self.world.seed,
            examples=self.examples,
            class_axes=self._class_axes if self.method.label_rows else None,
        )
        return own.using(self.compiled.setdefault(self._compiled_for, {}))

    def _default_grouping(self, step: LocalStep) -> Grouping:
        world, training, platform = self.world, self.training, jax.default_backend()
        lanes = jax.local_device_count(), jax.device_count()
        room = None
        if platform != "cpu":
            room = Room.of(jax.local_devices()[0], step, world.params, world.train, training.batch_size)
        return default_grouping(self.execution, platform, training.devices_per_round, *lanes, room=room)

    @property
    def _rescale(self) -> bool:
        # The first filters, or a window, are no sample of the full network that a factor would make right in the mean.
        chosen, default = self.method.rescale, self.training.rescale and self.method.filters == "random"
        return default if chosen is None else chosen

    @property
    def _proximal(self) -> float:
        return self.training.fedprox_mu if self.method.proximal else 0.0

    @property
    def _compiled_for(self) -> Hashable:
        """What programs depend on and is no data of them; what is planned on the host, such as a cap, is not among it."""
        world, method, training, examples = self.world, self.method, self.training, self.examples
        return (
            (id(world.network), id(world.others), id(world.task)),  # which their programs hold
            (method.filters, method.drawn, method.average, method.masked_loss, method.label_rows),
            (self._rescale, self._proximal, self.execution, self.convolution, self.grouping),
            (self.table.configurations.bits, None if examples is None else examples.tobytes()),
            (training.batch_size, training.steps, training.devices_per_round),
            (training.clip_norm, training.weight_decay, training.momentum > 0, training.server_optimizer),
            None if type(training) is TrainingSettings else training,  # it may have optimisers of its own
        )

    @functools.cached_property
    def _class_axes(self) -> Any:
        world = self.world
        inputs = world.train.batch(jnp.arange(2)).inputs
        return class_axes(world.network, world.params, world.others, inputs, world.task.num_classes or 0)

    @property
    def unit(self) -> str:
        """What devices choose by, and the unit in which a plan counts work, as for `DropoutTable.costs`."""
        # Who has all resources runs the dearest entry, whatever it costs.
        return self.world.cost if self.method.limited else MACS

    @functools.cached_property
    def full_cost(self) -> float:
        """As `full_cost` of its table; 1 for a method that does not limit devices."""
        return 1.0 if self.unit == MACS else full_cost(self.table, self.world, self.training)

    @functools.cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """What a mini-batch costs, as a fraction of what a round offers for each of its `steps`, [entries]."""
        return self.table.costs(self.unit) * self.full_cost

    @property
    def examples(self) -> npt.NDArray[np.int64] | None:
        """Examples of a mini-batch that each entry trains, [entries]; None: all."""
        return self.table.configurations.examples(self.training.batch_size)

    @functools.cached_property
    def _train(self) -> dict[jax.Device, Examples]:
        return self.round.placed(self.world.train)

    def start(self) -> Server:
        """The server before the first round; a copy, as rounds give buffers away.

        Raises:
          InputError: The processes of a job have different federations; in all of them.
        """
        if processes.count() > 1:
            settings = {field.name: getattr(self.training, field.name) for field in dataclasses.fields(TrainingSettings)}
            own = {"method": dataclasses.asdict(self.method), "training": settings, "seed": self.world.seed}
            processes.agreed(
                "federations",
                own | {"table": [part.tolist() for part in self.table.configurations], **self.world.checksums()},
            )
        return self.round.start(jax.tree.map(jnp.array, self.world.params))

    def plan(self, round_index: int) -> tuple[RoundPlan, ClientWork]:
        """What happens in a round, on the host: it depends on seed, load and costs alone."""
        world, training = self.world, self.training
        clients = sample_clients(world.seed, round_index, world.devices, training.devices_per_round)
        plan = plan_round(
            self.method,
            self.costs,
            world.availability,
            clients,
            round_index=round_index,
            steps=training.steps,
            seed=world.seed,
            **self._scheduled(round_index),
        )
        batches = batch_indices(
            world.seed, round_index, clients, world.partition, steps=plan.entries.shape[1], batch_size=training.batch_size
        )
        weights = world.partition.sizes[clients] if training.client_weights == "examples" else np.ones(len(clients))
        return plan, client_work(
            plan,
            batches,
            weights,
            by_steps=self.method.by_steps,
            steps=training.steps,
            momentum=training.momentum,
            step_factors=self.table.configurations.step_factors,
            client_classes=self._classes_of(clients) if self.method.masked_loss or self.method.label_rows else None,
        )

    def _scheduled(self, round_index: int) -> dict[str, Any]:
        """What a plan is told beside costs: progress of the entries, and which of them are allowed in this round."""
        told: dict[str, Any] = {}
        if self.method.by_progress:
            told["progress"] = [entry.progress for entry in self.table.entries]
            told["progress_stderr"] = [entry.progress_stderr or 0.0 for entry in self.table.entries]
        if self.method.schedule == "widen":
            allowed = min(1.0, 2 * (round_index + 1) / self.training.rounds)
            told["most"] = max(0, math.ceil(allowed * len(self.table.entries)) - 1)
        if self._stages is not None:
            told["only"] = self._stages.order[self._stages.stage(round_index / self.training.rounds)]
        return told

    def _classes_of(self, clients: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """The classes that clients have examples of, bool [clients, classes]."""
        classes = np.zeros((len(clients), self.world.task.num_classes or 0), dtype=bool)
        for row, client in zip(classes, clients, strict=True):
            row[self.world.dataset.train.targets[self.world.partition.examples_of(int(client))]] = True
        return classes

    def run_round(self, server: Server, work: ClientWork, round_index: int) -> tuple[Server, RoundResult]:
        """Trains a planned round.

        Args:
          server: Its memory is reused: only the server that is returned can be used afterwards.
          work: From `plan`.
          round_index: From 0.
        """
        return self.round.run(server, self._train, work, round_index)

    def delivered(self, widest: int = -1) -> Delivered:
        """The model that the method hands over (`Method.delivers`).

        Args:
          widest: The largest table entry that was trained so far; -1: none, which counts as the smallest.
        """
        network = self.world.network
        if self.method.delivers == "full":
            return Delivered(network.full_widths, 1, 1.0)
        entry = max(widest, 0) if self._stages is None else self._stages.order[max(widest, 0)]
        widths = self.table.entries[entry].widths
        members = ensemble_members(network, widths) if self.method.delivers == "ensemble" else 1
        return Delivered(widths, members, members * network.macs(widths) / network.macs())

    @functools.cached_property
    def _stages(self) -> Stages | None:
        return Stages.of(self.world.network, self.table) if self.method.rates == "stages" else None

    def widest(self, plan: RoundPlan) -> int:
        """The largest table entry that a round trains, in the order in which `delivered` counts them; -1: none."""
        widest = int(plan.entries.max(initial=-1))
        return widest if self._stages is None or widest < 0 else self._stages.order.index(widest)

    def evaluate(self, params: Any, widest: int = -1, evaluator: Evaluator | None = None) -> Scores:
        """Loss and score of the model that the method delivers.

        Args:
          params: The server's parameters.
          widest: As for `delivered`.
          evaluator: Of another test set; None: the world's.
        """
        model = self.delivered(widest)
        return (evaluator or self.world.evaluator)(params, model.widths, model.members)

    def bytes_moved(self, plan: RoundPlan) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(up, down) of each client, [clients]: parameters in their own type, sub-networks where the server can tell.

        It can where they are decided for the round. Layers that are frozen in it come down and don't go up.
        """
        method = self.method
        drawn_by_device = method.decided == "step" or (method.filters in ("random", "partition") and method.drawn == "step")
        up, down = self._bytes_of_entries[:, [-1] * len(plan.clients) if drawn_by_device else plan.caps]
        return np.where(plan.uploads, up, 0.0), down

    def memory_bytes(self, trained: Collection[int]) -> float:
        """Peak memory of a device that trains these table entries (0 bytes for none); see `training_bytes`."""
        memory = DeviceMemory(self.round.step, self.world.params, self.world.train, self.training.batch_size)
        every = [self.table.entries[entry].configuration for entry in trained]
        most = [one for one in every if not any(one != other and other.contains(one) for other in every)]
        return max((float(memory(configuration)) for configuration in most), default=0.0)

    @functools.cached_property
    def _bytes_of_entries(self) -> npt.NDArray[np.float64]:
        """float64 [2, entries + 1]: of each entry's trained layers, and of all its layers; last, the full model's."""
        network = self.world.network
        every = [*((entry.widths, entry.depth) for entry in self.table.entries), (network.full_widths, 0)]

        def size(widths: tuple[int, ...], depth: int) -> float:
            shapes, trained = network.shapes(self.world.params, widths), network.trained(self.world.params, depth)
            sizes = jax.tree.map(lambda leaf, sent: leaf.size * leaf.dtype.itemsize * sent, shapes, trained)
            return float(sum(jax.tree.leaves(sizes)))

        return np.array([[size(*entry) for entry in every], [size(widths, 0) for widths, _ in every]])
