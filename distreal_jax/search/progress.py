"""The progress of a dropout vector: the gain of accuracy on held-out data in a short federated training with it.

Progress is the search's second objective. Two choices make it predict what a fleet does (figures in docs/decisions.md). It
measures accuracy, because the loss falls mostly on the way to guessing. It averages several devices, as a server does:
filters dropped at random make the training of one device noisy, and the mean removes most of that noise. A proxy that trains
one device for as many mini-batches sees no progress where a fleet makes some.

All candidates start from the same weights and see the same mini-batches and draws of filters, so they differ in their
vectors only. One program serves all candidates that fit into a network of its size: it trains them masked within that
compact part. With one size that is the full network. With more sizes there are more programs to compile, but narrow
candidates, which are most of a front, cost less.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from distreal_jax.data.partition import Partition
from distreal_jax.errors import InputError
from distreal_jax.search.proxy_data import ProxyData
from distreal_jax.search.space import Widths
from distreal_jax.search.training_sizes import by_size
from distreal_jax.settings import STEPS, Within, check_settings
from distreal_jax.step import CLASSIFICATION, ConvolutionForm, Examples, Knobs, LocalStep, Task, forward, in_full_precision
from distreal_jax.table import Configuration, Configurations
from distreal_jax.tracing import TracedNetwork, draw_filters, draw_masks
from distreal_jax.tracing.jaxprs import same_form
from distreal_jax.tracing.walk import jaxpr_of

ProgressUnit = Literal["batch", "mac"]
_CANDIDATES = "candidates"
_VMAPPED_ON_ACCELERATOR = 16  # chosen by us
_SIZES_ON_CPU = 4  # chosen by us
_ROLES = 1 << 20  # in random keys: beyond the number of devices, of rounds and of repeats


@dataclasses.dataclass(frozen=True)
class ProgressSettings:
    """How progress is measured. All defaults are chosen by us.

    Attributes:
      rounds: Federated rounds of the short training.
      devices: Devices that train in each round, from the same weights on their own mini-batches, and are averaged.
      steps: Mini-batches of each device in a round.
      batch_size: Examples in a mini-batch.
      snapshots: Mini-batches of ordinary training before a short training starts, such as 0,50,300 for fresh, early and
        later weights; progress is the mean over them.
      held_out: Training examples that are held out to measure accuracy on.
      unit: Gain per mini-batch (as in the paper), or per MAC spent, relative to the full network's MACs.
      vmapped: Candidates that are trained side by side on each device; 0: one on a CPU, where more are slower, and 16 on an
        accelerator.
      sizes: Number of network sizes, evenly spread, at which short trainings are computed, separately for convolutions
        inside blocks and all others (without blocks: the first half and the second). A candidate is trained at the smallest
        size that holds it. 1: all at full shapes, in one program; 0: 4 on a CPU, 1 on an accelerator.
      shrink: Factor by which images are made smaller for the short training, for networks that accept any image size
        (reduced resolution: Zhou et al., EcoNAS, CVPR 2020). Costs in a table are those of whole images.
    """

    rounds: Annotated[int, STEPS] = 4
    devices: Annotated[int, STEPS] = 6
    steps: Annotated[int, STEPS] = 5
    batch_size: Annotated[int, STEPS] = 10
    snapshots: tuple[Annotated[int, Within(0, 10**7)], ...] = (0,)
    held_out: Annotated[int, Within(1, 10**9)] = 1000
    unit: ProgressUnit = "batch"
    vmapped: Annotated[int, Within(0, 10**5)] = 0
    sizes: Annotated[int, Within(0, 1000)] = 0
    shrink: Annotated[int, Within(1, 1000)] = 1

    def __post_init__(self) -> None:
        check_settings(self, message="progress {name} is {value}; give {expected}")
        if not self.snapshots:
            raise InputError(f"snapshots are {self.snapshots}; give at least one number of mini-batches, such as 0")


class _Candidate(NamedTuple):
    """A configuration as data of a program; what is None is as usual."""

    widths: Any  # int32 [groups]
    examples: Any = None  # int32, of a mini-batch
    depth: Any = None  # int32
    step_factor: Any = None  # float32


class Progress:
    """Measures candidates; an `Evaluate` for `distreal_jax.search.search`."""

    def __init__(
        self,
        network: TracedNetwork,
        params: Any,
        others: Any,
        train: Examples,
        optimizer: optax.GradientTransformation,
        settings: ProgressSettings,
        *,
        seed: int,
        rescale: bool = False,
        convolution: ConvolutionForm = "platform",
        partition: Partition | None = None,
        task: Task = CLASSIFICATION,
        every_knob: bool = False,
    ) -> None:
        """Splits off the held-out examples and trains the snapshots.

        Args:
          network: The traced network.
          params: Its first parameters.
          others: Its other variables.
          train: The training set; the test set has no part in a search.
          optimizer: The devices' optimiser.
          settings: How progress is measured.
          seed: Of the split, the mini-batches and the filters.
          rescale: Inverted-dropout rescaling in the short training, as devices do it.
          convolution: The form in which convolutions are computed.
          partition: Who holds which training examples: each device of a round is then another client, drawn at random, and
            trains on its own examples. None: all draw from all. Snapshots are trained on all in any case.
          task: What is learnt.
          every_knob: Whether candidates choose more than filters. It is said before they come, so that a candidate is
            measured by the same program whatever the others are.

        Raises:
          InputError: Fewer training examples than are to be held out, fewer clients than devices in a round, or a network
            that can't be run on images shrunk so.
        """
        self._step = LocalStep(network, optimizer, others, convolution=convolution, rescale=rescale, task=task)
        self._settings, self._key, self._every_knob = settings, jax.random.key(seed), every_knob
        everybodys = ProxyData.split(self._shrunk(train, params), settings.held_out, seed)
        if settings.batch_size > len(everybodys.trained_on):
            raise InputError(
                f"progress batch_size is {settings.batch_size}, and {len(everybodys.trained_on)} training examples are not"
                " held out; give a smaller one"
            )
        self._data = everybodys if partition is None else everybodys.shared_out(partition, settings.devices)
        self._snapshots = self._trained_snapshots(params, everybodys)
        self._programs = functools.cache(self._program)

    def __call__(self, candidates: Configurations, repeat: int) -> npt.NDArray[np.float64]:
        """Progress of candidates.

        Args:
          candidates: Their configurations; parts of a mini-batch are divisors of its size.
          repeat: Names the random numbers, which all candidates share.

        Returns:
          [candidates], mean gain of accuracy on the held-out examples, over snapshots.
        """
        key, under_way = jax.random.fold_in(self._key, repeat), []
        widths, every = candidates.widths.astype(np.int32), self._candidates(candidates)
        for sizes, members in by_size(self._step.network, widths, self.sizes).items():
            padded = np.append(members, np.repeat(members[-1:], -len(members) % self.at_once))
            for first in range(0, len(padded), self.at_once):
                chosen = padded[first : first + self.at_once]
                together = jax.tree.map(lambda array, chosen=chosen: jnp.asarray(array[chosen]), every)
                # All are under way before the first is waited for.
                accuracies = self._programs(sizes)(together, self._snapshots, self._data, key)
                under_way.append((members[first : first + self.at_once], accuracies))
        gains = np.empty(len(widths))
        for members, accuracies in under_way:
            gains[members] = jax.device_get(accuracies)[: len(members)]
        with np.errstate(invalid="ignore"):
            gains -= self._before
        if self._settings.unit == "mac":
            network = self._step.network
            gains = gains * network.training_macs() / (candidates.macs(network) * candidates.batch_shares)
        # A vector that diverges has lost everything that there was to gain.
        return np.where(np.isfinite(gains), np.maximum(gains, -1.0), -1.0)

    def _shrunk(self, train: Examples, params: Any) -> Examples:
        """The data at the size of the short training, which the network is tried on."""
        factor, step = self._settings.shrink, self._step
        if factor == 1:
            return train
        shrunk, network = train.shrunk(factor), step.network
        images = jax.ShapeDtypeStruct((1, *shrunk.inputs.shape[1:]), jnp.float32)
        every = [np.arange(filters) for filters in network.full_widths]
        run = functools.partial(forward, network, train=True, convolution=step.convolution, key=self._key)
        before = jax.ShapeDtypeStruct((1, *train.inputs.shape[1:]), jnp.float32)
        variables = nnx.merge_state(params, step.others)
        try:
            calls = [jaxpr_of(network.graphdef, variables, inputs, train=True) for inputs in (before, images)]
            if (network.actions[True] or network.draws[True]) and not same_form(*calls):
                raise InputError(
                    f"the network does something else on images shrunk to {shrunk.size} (progress shrink {factor}) than on "
                    f"those of {train.size}; give a shrink of 1"
                )
            jax.eval_shape(functools.partial(run, kept=every, part=every), params, step.others, images)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the network can't be run on images shrunk to {shrunk.size} (progress shrink {factor}), as some layer is "
                "made for one size of image; give a shrink of 1"
            ) from error
        return shrunk

    def _trained_snapshots(self, params: Any, data: ProxyData) -> Any:
        """Parameters after each snapshot's number of ordinary mini-batches; leaves [snapshots, ...]."""

        @jax.jit
        def train(params: Any, first: int, last: int, data: ProxyData, key: jax.Array) -> Any:
            def body(index: jax.Array, learner: Any) -> Any:
                step_key = jax.random.fold_in(key, index)
                return self._step.ordinary(learner, params, data.batch(step_key, self._settings.batch_size), step_key)[0]

            return jax.lax.fori_loop(first, last, body, self._step.start(params)).params

        taken, before, points = {}, 0, sorted(set(self._settings.snapshots))
        key = jax.random.fold_in(self._key, _ROLES)
        for point in points:
            params = train(params, before, point, data, key) if point > before else params
            taken[point], before = params, point
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(taken[point] for point in points))

    @property
    def step(self) -> LocalStep:
        """The training step of a device."""
        return self._step

    @property
    def network(self) -> TracedNetwork:
        """The network that is searched."""
        return self._step.network

    @property
    def input_size(self) -> str:
        """Height and width of the images that candidates are trained on, such as 16x16; of other inputs the shapes."""
        return self._data.train.size

    @property
    def at_once(self) -> int:
        """Candidates that are trained at the same time, on all devices of this process together."""
        return jax.local_device_count() * self._vmapped

    @property
    def _vmapped(self) -> int:
        return self._settings.vmapped or (1 if jax.default_backend() == "cpu" else _VMAPPED_ON_ACCELERATOR)

    @property
    def sizes(self) -> int:
        """Sizes of network that candidates are trained at, for each part of the convolutions."""
        return self._settings.sizes or (_SIZES_ON_CPU if jax.default_backend() == "cpu" else 1)

    @functools.cached_property
    def _before(self) -> float:
        """Accuracy of the snapshots, which no candidate changes."""
        accuracy = float(jax.jit(self._mean_accuracy)(self._snapshots, self._data, self._key))
        if not np.isfinite(accuracy):
            raise InputError(
                f"the network's output for examples of {self.input_size} is not finite before any short training; give a "
                "smaller progress shrink, earlier snapshots or a lower learning rate"
            )
        return accuracy

    def _program(self, sizes: Widths) -> Any:
        """Accuracy after the short training of each candidate: one candidate, or as many as are vmapped, on each device.

        Args:
          sizes: Filters in each group of the network that they are trained within.
        """
        mesh = Mesh(np.array(jax.local_devices()), (_CANDIDATES,))
        alone, everywhere = PartitionSpec(_CANDIDATES), PartitionSpec()
        return jax.jit(
            jax.shard_map(
                functools.partial(self._accuracies_of, sizes),
                mesh=mesh,
                in_specs=(alone, everywhere, everywhere, everywhere),
                out_specs=alone,
                check_vma=False,
            )
        )

    def trained(self, candidate: Configuration, repeat: int) -> Any:
        """Parameters after one candidate's short training from each snapshot: leaves [snapshots, ...]."""
        key, alone = jax.random.fold_in(self._key, repeat), Configurations.of([candidate])
        (sizes,) = by_size(self._step.network, alone.widths.astype(np.int32), self.sizes)
        one = jax.tree.map(lambda array: jnp.asarray(array[0]), self._candidates(alone))
        return jax.jit(self._trained, static_argnums=0)(sizes, one, self._snapshots, self._data, key)

    def _candidates(self, configurations: Configurations) -> "_Candidate":
        """As the programs take them, leaves [candidates, ...]."""
        widths = configurations.widths.astype(np.int32)
        if not self._every_knob:
            return _Candidate(widths)
        size = self._settings.batch_size
        examples = np.maximum(1, np.rint(configurations.batch_shares * size)).astype(np.int32)
        depths, factors = configurations.depths.astype(np.int32), configurations.step_factors.astype(np.float32)
        return _Candidate(widths, examples, depths, factors)

    def _mean_accuracy(self, of: Any, data: ProxyData, key: jax.Array) -> jax.Array:
        """Accuracy on the held-out examples, mean over leaves' first axis: [snapshots, ...] to a number."""

        def accuracy(params: Any) -> jax.Array:
            batch, step = data.train.batch(data.held_out), self._step
            form = "library" if self._vmapped == 1 else step.convolution  # one model, forwards alone: XLA's is faster
            # Normalisation uses the statistics of the held-out examples, as in training.
            outputs, _ = forward(step.network, params, step.others, batch.inputs, train=True, convolution=form, key=key)
            finite = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs)]).all()
            return jnp.where(finite, step.task.mean_score(outputs, batch.targets), -jnp.inf)

        return jax.lax.map(accuracy, of).mean()

    def _accuracies_of(
        self, sizes: Widths, candidates: "_Candidate", snapshots: Any, data: ProxyData, key: jax.Array
    ) -> jax.Array:
        def after(candidate: _Candidate) -> jax.Array:
            return self._mean_accuracy(self._trained(sizes, candidate, snapshots, data, key), data, key)

        return jax.vmap(after)(candidates) if self._vmapped > 1 else jax.lax.map(after, candidates)

    def _trained(self, sizes: Widths, candidate: "_Candidate", snapshots: Any, data: ProxyData, key: jax.Array) -> Any:
        """The short training of a candidate from each snapshot, computed at these sizes."""
        settings = self._settings
        step = self._step.for_many() if self._vmapped > 1 else self._step

        def device(params: Any, device_key: jax.Array, client: jax.Array | None) -> Any:
            def body(learner: Any, step_key: jax.Array) -> tuple[Any, None]:
                batch_key, filter_key, layer_key = jax.random.split(step_key, 3)
                batch = data.batch(batch_key, settings.batch_size, client, candidate.examples)
                kept = draw_masks("random", filter_key, 0, step.network, candidate.widths)
                within = draw_filters("random", filter_key, 0, step.network, sizes)  # in the same order: holds those kept
                knobs = Knobs(0, candidate.depth, candidate.step_factor)
                return step.masked_within(learner, params, batch, layer_key, within, kept, knobs)[0], None

            learner, _ = jax.lax.scan(body, step.start(params), jax.random.split(device_key, settings.steps))
            return learner.params

        def federated_round(params: Any, round_key: jax.Array) -> tuple[Any, None]:
            def add_device(total: Any, member: tuple[jax.Array, jax.Array | None]) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, device(params, *member)), None

            clients = data.members(jax.random.fold_in(round_key, _ROLES), settings.devices)
            members = jax.random.split(round_key, settings.devices), clients
            total, _ = jax.lax.scan(add_device, jax.tree.map(jnp.zeros_like, in_full_precision(params)), members)
            return jax.tree.map(lambda leaf, like: (leaf / settings.devices).astype(like.dtype), total, params), None

        def from_snapshot(snapshot: Any, snapshot_key: jax.Array) -> Any:
            return jax.lax.scan(federated_round, snapshot, jax.random.split(snapshot_key, settings.rounds))[0]

        keys = jax.random.split(key, len(jax.tree.leaves(snapshots)[0]))
        return jax.lax.map(lambda item: from_snapshot(*item), (snapshots, keys))


def describe(settings: ProgressSettings, *parts: Sequence[object] | object) -> str:
    """What a search measures, in words, so that a checkpoint of another measurement is refused."""
    return "; ".join(map(str, (dataclasses.asdict(settings), *parts)))
