"""One federated round as calls of compiled programs: the plan goes in as data, no value comes back to the host on the way.

Each width vector of a table is a program of its own, so that programs are compiled side by side, and a device runs nothing
but what its clients need. The host only queues calls, in lanes that work at the same time.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import optax

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.fleet.aggregation import Server
from distreal_jax.fleet.exchange import added_in_order, check_same_work, groups_of
from distreal_jax.fleet.lanes import Lanes, strongly_typed
from distreal_jax.fleet.programs import Execution, Here, Leaves, Moment, Name, RoundPrograms, RoundResult
from distreal_jax.fleet.work import Block, ClientWork, Grouping, group_size, units_of
from distreal_jax.methods import Method
from distreal_jax.step import Examples, LocalStep, in_full_precision
from distreal_jax.table import Configurations
from distreal_jax.tracing.filters import next_scores


@dataclasses.dataclass(frozen=True)
class Round:
    """The compiled round of one method with one table.

    Attributes:
      step: A device's training step.
      method: Which filters are kept, when they are drawn, and how the server averages.
      configurations: Of the table's entries.
      optimizer: The server's optimiser.
      execution: `masked` or `compact`.
      grouping: How clients are shared out.
      seed: Of the devices' draws; the program is the same for all seeds, so a compilation cache serves them all.
      examples: int [entries], how many examples of a mini-batch each entry trains, a divisor of its size; None: all.
      class_axes: `class_axes` of the network, for methods that average rows of the classifier over who has their class.
      programs: What is compiled, by its grouping, whose lanes change no program; a changed copy has none yet.
    """

    step: LocalStep
    method: Method
    configurations: Configurations
    optimizer: optax.GradientTransformation
    execution: Execution
    grouping: Grouping
    seed: int
    examples: npt.NDArray[np.int64] | None = None
    class_axes: Any | None = None
    programs: dict[Grouping, RoundPrograms] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.grouping.by_entry != (self.execution == "compact"):
            raise InputError("clients are grouped by entry in compact execution and only there")
        devices = jax.local_devices()
        if devices[0].platform != "cpu" and self.grouping.lanes > len(devices):
            raise InputError(f"{self.grouping.lanes} lanes need as many devices; there are {len(devices)}")

    def using(self, programs: dict[Grouping, RoundPrograms]) -> "Round":
        """This round with programs that it has in common with rounds of other seeds and hyperparameters."""
        changed = dataclasses.replace(self)
        object.__setattr__(changed, "programs", programs)  # no argument, which a changed copy would take over
        return changed

    def start(self, params: Any) -> Server:
        """The server's state before the first round, where rounds leave it as well."""
        params = strongly_typed(params)
        scores = next_scores(self.method.filters, self.step.network, params)
        server = Server(params, self.optimizer.init(in_full_precision(params)), scores)
        return Server(*jax.device_put(server, self._home))

    def placed(self, data: Examples) -> dict[jax.Device, Examples]:
        """The training set on every device that trains: what lies on one alone would be copied again in each round."""
        return self.lanes.placed(data)

    def run(
        self, server: Server, data: dict[jax.Device, Examples], work: ClientWork, round_index: int
    ) -> tuple[Server, RoundResult]:
        """Runs a planned round; `server`'s buffers are given away.

        Args:
          server: The state before the round.
          data: The training set, as `placed` puts it.
          work: What the clients train, axes [clients].
          round_index: The round.
        """
        check_same_work(work, round_index)
        programs = self.programs_for(group_size(len(work.clients)))
        units = units_of(work, programs.grouping, programs.of_entries)
        of_process = processes.shares([self._macs_of(unit) for unit in units], processes.lanes())
        own_units = [units[number] for number in of_process[processes.index()]]
        moment: Moment = (np.uint32(self.seed), np.uint32(round_index))
        params = self.lanes.placed(tuple(jax.tree.leaves((server.params, server.scores))))
        own = self.hyperparameters
        here = {place: Here(server, params[place], data[place], units[0][0].work, own) for place in params}
        programs.compile(_needed(own_units), here, moment)
        sums: dict[int, Leaves] = {}

        def train(unit: Sequence[Block], place: jax.Device) -> None:
            sums.update(self._train(programs, unit, here[place], moment, place))

        self.lanes.run(train, sorted(own_units, key=self._macs_of, reverse=True))
        if processes.count() > 1:
            groups = [[group for number in numbers for group in groups_of(units[number])] for numbers in of_process]
            total = added_in_order(sums, groups, programs.shape_of_sums(server.params))
        else:
            total = self._added_up(programs, sums)
        after: tuple[Server, RoundResult] = programs.jitted["finish"](server, total)
        return after

    def compilations(self) -> dict[Name, int]:
        """How many times each program has been compiled: once for each device."""
        every = [program for programs in self.programs.values() for program in programs.jitted.items()]
        return {name: int(program._cache_size()) for name, program in every}

    @functools.cached_property
    def lanes(self) -> Lanes:
        """Where clients train side by side."""
        return Lanes.of_this_process(self.grouping.lanes)

    @property
    def _home(self) -> jax.Device:
        return self.lanes.places[0]

    @functools.cached_property
    def hyperparameters(self) -> list[Any] | None:
        """Those of the devices' optimiser: data of the programs, as the seed is."""
        return jax.device_get(self.step.hyperparameters())

    def _added_up(self, programs: RoundPrograms, sums: dict[int, Leaves]) -> Leaves:
        total = jax.device_put(sums[0], self._home)
        for group in range(1, len(sums)):
            total = programs.jitted["add up"](total, jax.device_put(sums[group], self._home))
        return total

    def programs_for(self, group: int) -> RoundPrograms:
        """The programs of rounds whose sums have groups of so many clients."""
        grouping = dataclasses.replace(self.grouping.within(group), lanes=1)
        if grouping not in self.programs:
            self.programs[grouping] = RoundPrograms(
                self.step,
                self.method,
                self.configurations,
                self.optimizer,
                self.execution,
                grouping,
                self.examples,
                self.class_axes,
            )
        return self.programs[grouping]

    def _macs_of(self, unit: Sequence[Block]) -> float:
        """The work of a unit, so that long ones are begun first."""
        return float(sum(self._macs[block.work.entries[block.work.entries >= 0]].sum() for block in unit))

    @functools.cached_property
    def _macs(self) -> npt.NDArray[np.float64]:
        return self.configurations.macs(self.step.network) * self.configurations.batch_shares

    def _train(
        self, programs: RoundPrograms, unit: Sequence[Block], here: Here, moment: Moment, place: jax.Device
    ) -> dict[int, Leaves]:
        """Trains the clients of a unit and adds them up, group by group, each in the order of its clients."""
        run, sums = programs.jitted, dict[int, Leaves]()
        for block in unit:
            work = jax.device_put(block.work, place)
            carry = run["start"](here.params, work, here.hyperparameters)
            for call in block.calls:
                carry = run[call.program](
                    carry, here.params, here.data, work, call.slots, call.first, np.int32(call.steps), moment
                )
            for group, begin, end in block.segments:
                others = (carry, here.params, work, np.int32(begin), np.int32(end), moment)
                sums[group] = run["add"](sums[group], *others) if group in sums else run["add first"](*others)
        return jax.block_until_ready(sums)  # the queue stays short, and so does what it holds


def _needed(units: Sequence[Sequence[Block]]) -> set[Name]:
    """The programs that these units call."""
    blocks = [block for unit in units for block in unit]
    groups = [segment.group for block in blocks for segment in block.segments]
    needed: set[Name] = {call.program for block in blocks for call in block.calls}
    needed.add("finish")
    if blocks:
        needed |= {"start", "add first"}
    if len(groups) > len(set(groups)):  # a group in several blocks
        needed.add("add")
    if len(set(groups)) > 1 and processes.count() == 1:
        needed.add("add up")
    return needed
