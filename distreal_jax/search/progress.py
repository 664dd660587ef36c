"""How fast a dropout vector learns: the gain of accuracy on held-out data of a short federated training with it.

The search's second objective. Two things decide whether it predicts what a fleet does (docs/decisions.md has the figures):
it is accuracy, as a fall of the loss is mostly the fall to guessing; and it averages devices, as a server does. Filters
dropped at random make one device's training noisy, and the mean takes most of that noise away: a proxy that trains one
device for as many mini-batches sees no progress where a fleet makes some.

All candidates of a batch are trained in one compiled, masked program, from the same weights, on the same mini-batches and
with the same draws of filters, so that they differ in their vectors alone.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.sharding import Mesh, PartitionSpec

from distreal_jax.errors import InputError
from distreal_jax.step import ConvolutionForm, Images, LocalStep, forward
from distreal_jax.tracing import TracedNetwork, draw_masks

ProgressUnit = Literal["batch", "mac"]
_CANDIDATES = "candidates"


@dataclasses.dataclass(frozen=True)
class ProgressSettings:
    """How progress is measured. All defaults are chosen by us.

    Attributes:
      rounds: Federated rounds of the short training.
      devices: That train in each of these rounds, from the same weights on draws of their own, and are averaged.
      steps: Mini-batches that each of them trains in a round.
      batch_size: Examples in a mini-batch.
      snapshots: Mini-batches of ordinary training after which a short training starts, such as 0,50,300 for fresh, early
        and later; progress is the mean over them.
      held_out: Training examples kept aside to measure on.
      unit: Gain for each mini-batch (the paper's way), or for each MAC spent, relative to the full network's.
      vmapped: Candidates that are trained side by side on each device; 1 is best on a CPU.
    """

    rounds: int = 2
    devices: int = 8
    steps: int = 5
    batch_size: int = 10
    snapshots: tuple[int, ...] = (0,)
    held_out: int = 1000
    unit: ProgressUnit = "batch"
    vmapped: int = 1

    def __post_init__(self) -> None:
        for name in ("rounds", "devices", "steps", "batch_size", "held_out", "vmapped"):
            if getattr(self, name) < 1:
                raise InputError(f"progress {name} is {getattr(self, name)}; give at least 1")
        if not self.snapshots or min(self.snapshots) < 0:
            raise InputError(f"snapshots are {self.snapshots}; give at least one number of mini-batches, such as 0")
        if self.unit not in get_args(ProgressUnit):
            raise InputError(f"unknown progress unit {self.unit!r}; choose from: {', '.join(get_args(ProgressUnit))}")


class Progress:
    """Measures candidates; an `Evaluate` for `distreal_jax.search.search`."""

    def __init__(
        self,
        network: TracedNetwork,
        params: Any,
        others: Any,
        train: Images,
        optimizer: optax.GradientTransformation,
        settings: ProgressSettings,
        *,
        seed: int,
        rescale: bool = False,
        convolution: ConvolutionForm = "patches",
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

        Raises:
          InputError: Fewer training examples than are to be held out.
        """
        count = len(train.labels)
        if settings.held_out >= count:
            raise InputError(f"{settings.held_out} of {count} training examples can't be held out; hold out fewer")
        order = np.random.default_rng(seed).permutation(count)
        self._held_out, self._trained_on = order[: settings.held_out], order[settings.held_out :]
        self._step = LocalStep(network, optimizer, others, convolution=convolution, rescale=rescale)
        self._settings, self._train = settings, train
        self._key = jax.random.key(seed)
        self._snapshots = self._trained_snapshots(params)

    def __call__(self, widths: npt.NDArray[np.integer], repeat: int) -> npt.NDArray[np.float64]:
        """Progress of candidates.

        Args:
          widths: int [candidates, groups].
          repeat: Names the random numbers, which all candidates share.

        Returns:
          [candidates], mean gain of accuracy on the held-out examples, over snapshots.
        """
        shards = len(jax.devices())
        filling = -len(widths) % shards
        padded = np.concatenate([widths, np.repeat(widths[-1:], filling, axis=0)])
        key = jax.random.fold_in(self._key, repeat)
        gains = np.asarray(self._measured(padded, self._snapshots, self._train, key), dtype=np.float64)[: len(widths)]
        if self._settings.unit == "mac":
            network = self._step.network
            gains = gains * network.macs() / network.macs_of_many(widths)
        # A vector that diverges has lost everything that there was to gain.
        return np.where(np.isfinite(gains), np.maximum(gains, -1.0), -1.0)

    def _trained_snapshots(self, params: Any) -> Any:
        """Parameters after each snapshot's number of ordinary mini-batches; leaves [snapshots, ...]."""

        @jax.jit
        def train(params: Any, first: int, last: int, train_set: Images) -> Any:
            def body(index: jax.Array, learner: Any) -> Any:
                key = jax.random.fold_in(jax.random.fold_in(self._key, 1 << 20), index)
                return self._step.ordinary(learner, params, self._batch(train_set, key), key)[0]

            return jax.lax.fori_loop(first, last, body, self._step.start(params)).params

        taken, before, points = {}, 0, sorted(set(self._settings.snapshots))
        for point in points:
            params = train(params, before, point, self._train) if point > before else params
            taken[point], before = params, point
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(taken[point] for point in points))

    def _batch(self, train: Images, key: jax.Array) -> Any:
        chosen = jax.random.randint(key, (self._settings.batch_size,), 0, len(self._trained_on))
        return train.batch(jnp.asarray(self._trained_on)[chosen])

    @functools.cached_property
    def _measured(self) -> Any:
        mesh = Mesh(np.array(jax.devices()), (_CANDIDATES,))
        alone, everywhere = PartitionSpec(_CANDIDATES), PartitionSpec()
        return jax.jit(
            jax.shard_map(
                self._gains,
                mesh=mesh,
                in_specs=(alone, everywhere, everywhere, everywhere),
                out_specs=alone,
                check_vma=False,
            )
        )

    def trained(self, widths: npt.ArrayLike, repeat: int) -> Any:
        """Parameters after one candidate's short training from each snapshot: leaves [snapshots, ...]."""
        key = jax.random.fold_in(self._key, repeat)
        return jax.jit(self._trained)(jnp.asarray(widths), self._snapshots, self._train, key)

    def _gains(self, widths: jax.Array, snapshots: Any, train: Images, key: jax.Array) -> jax.Array:
        def accuracy(params: Any) -> jax.Array:
            batch, step = train.batch(jnp.asarray(self._held_out)), self._step
            # Normalisation uses the statistics of the held-out examples, as in training.
            logits, _ = forward(
                step.network, params, step.others, batch.images, train=True, convolution=step.convolution, key=key
            )
            right = (logits.argmax(axis=1) == batch.labels).mean()
            return jnp.where(jnp.isfinite(logits).all(), right, -jnp.inf)

        def mean_accuracy(of: Any) -> jax.Array:
            return jax.lax.map(accuracy, of).mean()

        def after(candidate: jax.Array) -> jax.Array:
            return mean_accuracy(self._trained(candidate, snapshots, train, key))

        side_by_side = self._settings.vmapped if self._settings.vmapped > 1 else None
        return jax.lax.map(after, widths, batch_size=side_by_side) - mean_accuracy(snapshots)

    def _trained(self, candidate: jax.Array, snapshots: Any, train: Images, key: jax.Array) -> Any:
        """The short training of a candidate from each snapshot."""
        settings, step = self._settings, self._step

        def device(params: Any, device_key: jax.Array) -> Any:
            def body(learner: Any, step_key: jax.Array) -> tuple[Any, None]:
                batch_key, filter_key, layer_key = jax.random.split(step_key, 3)
                kept = draw_masks("random", filter_key, 0, step.network, candidate)
                return step.masked(learner, params, self._batch(train, batch_key), layer_key, kept)[0], None

            learner, _ = jax.lax.scan(body, step.start(params), jax.random.split(device_key, settings.steps))
            return learner.params

        def federated_round(params: Any, round_key: jax.Array) -> tuple[Any, None]:
            def add_device(total: Any, device_key: jax.Array) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, device(params, device_key)), None

            keys = jax.random.split(round_key, settings.devices)
            total, _ = jax.lax.scan(add_device, jax.tree.map(jnp.zeros_like, params), keys)
            return jax.tree.map(lambda leaf: leaf / settings.devices, total), None

        def from_snapshot(snapshot: Any, snapshot_key: jax.Array) -> Any:
            return jax.lax.scan(federated_round, snapshot, jax.random.split(snapshot_key, settings.rounds))[0]

        keys = jax.random.split(key, len(jax.tree.leaves(snapshots)[0]))
        return jax.lax.map(lambda item: from_snapshot(*item), (snapshots, keys))


def describe(settings: ProgressSettings, *parts: Sequence[object] | object) -> str:
    """What a search measures, in words, so that a checkpoint of another measurement is refused."""
    return "; ".join(map(str, (dataclasses.asdict(settings), *parts)))
