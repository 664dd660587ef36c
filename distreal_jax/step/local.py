"""One training step of a device, in two executions that give the same update to rounding.

*Masked*: full shapes, dropped filters set to zero; one compilation serves every dropout vector. The reference, and what the
search maps over. *Compact*: the sub-network's gathered arrays, so that the work really shrinks; one compilation per width
vector. (And, for a search, the one inside the other: masked within a compact part.) What a step drops or freezes is left
exactly as it was, momentum and weight decay included.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from distreal_jax.errors import InputError
from distreal_jax.step.examples import Batch
from distreal_jax.step.forms import ConvolutionForm, gradient_in_form
from distreal_jax.step.forward import forward, in_full_precision
from distreal_jax.step.task import CLASSIFICATION, Task
from distreal_jax.tracing import Kept, TracedNetwork
from distreal_jax.tracing.layout import boolean_masks


class Learner(NamedTuple):
    """What a device trains: parameters and the state of its optimiser."""

    params: Any
    opt_state: Any


class Knobs(NamedTuple):
    """What a device chooses for a step beside its filters and examples.

    Frozen layers run forwards alone, with the statistics of the mini-batch as in any training step; what they would have
    learnt is left as it was. As a number, `depth` leaves their backward pass out of the program.

    Attributes:
      depth: Layers before the first that is trained, of `TracedNetwork.order`.
      frozen: The same as data, at least `depth`; None: `depth` it is.
      step_factor: The optimiser's step is this much longer; None: it is as long as the optimiser says.
    """

    depth: int = 0
    frozen: jax.Array | None = None
    step_factor: jax.Array | None = None


ALL_TRAINED = Knobs()


@dataclasses.dataclass(frozen=True)
class LocalStep:
    """A device's training step; its methods are pure functions, to be used under `jit`, `vmap` and `scan`.

    Attributes:
      network: The traced network.
      optimizer: The device's Optax optimiser.
      others: The network's other variables. Normalisation uses the statistics of the mini-batch, so they only matter to
        evaluation and are not trained.
      convolution: The form in which convolutions are computed.
      rescale: Inverted-dropout rescaling where no normalisation follows a group.
      proximal: FedProx's mu: adds mu / 2 |w - w_global|^2 to the loss. (Li et al., MLSys 2020, eq. 2.)
      task: What is learnt.
      part: Of a step on smaller arrays, the filters of the whole network that these are of.
    """

    network: TracedNetwork
    optimizer: optax.GradientTransformation
    others: Any
    convolution: ConvolutionForm = "platform"
    rescale: bool = False
    proximal: float = 0.0
    task: Task = CLASSIFICATION
    part: Kept | None = None

    def for_many(self) -> "LocalStep":
        """The step for `vmap` over clients, whose weights differ: by patches, unless a form was asked for or it is a TPU."""
        patches = self.convolution == "platform" and jax.default_backend() != "tpu"
        return dataclasses.replace(self, convolution="patches") if patches else self

    def hyperparameters(self) -> list[Any] | None:
        """Those of the optimiser that `optax.inject_hyperparams` keeps in its state, such as its learning rate.

        None if the optimiser can't be started without parameters: then they stay constants.
        """
        try:
            state = self.optimizer.init({})
        except Exception:  # of whatever kind an optimiser of one's own finds fit
            return None
        return hyperparameters_in(state)

    def start(self, params: Any, hyperparameters: list[Any] | None = None) -> Learner:
        """A device's state when it has just received the global parameters.

        Args:
          params: The global parameters.
          hyperparameters: As `hyperparameters` gives them, in place of those that the optimiser was made with: handed over
            as data, they make no program of their own.

        Raises:
          InputError: The optimiser's state doesn't follow the shapes of the parameters, so a sub-network has no share of it,
            or what a product takes in would have to be rescaled and can't be.
        """
        state = self.first_state(params)
        self._check_state(params)
        if self.rescale:
            self.network.check_rescaled()
        return Learner(params, state if hyperparameters is None else with_hyperparameters(state, hyperparameters))

    def ordinary(
        self, learner: Learner, anchor: Any, batch: Batch, key: jax.Array, knobs: Knobs = ALL_TRAINED
    ) -> tuple[Learner, jax.Array]:
        """One step of the full network.

        Args:
          learner: Parameters and state of the optimiser.
          anchor: The server's parameters, for FedProx's term.
          batch: The mini-batch.
          key: Of the network's own random layers, a scalar.
          knobs: What is trained, and the factor on the step size.

        Returns:
          The new learner, and the mean loss of the mini-batch, [].
        """
        return self._update(learner, anchor, batch, key, knobs, self.others, self.network.full_widths)

    def masked(
        self, learner: Learner, anchor: Any, batch: Batch, key: jax.Array, kept: Kept, knobs: Knobs = ALL_TRAINED
    ) -> tuple[Learner, jax.Array]:
        """One step of a sub-network at full shapes.

        Args:
          learner: Full parameters and optimiser state.
          anchor: The global parameters that the round began with.
          batch: The mini-batch.
          key: For the network's own random layers.
          kept: For each group bool [filters] (whose number may depend on data) or int [width].
          knobs: What else is chosen.

        Returns:
          The new learner, bitwise unchanged where a filter is dropped, and the mean loss. With the indices of all filters it
          is `ordinary`, bit by bit; masks are data, and XLA fuses them into the step, which can round differently.
        """
        if all(chosen.dtype != bool for chosen in kept) and self._keeps_all(kept):
            return self.ordinary(learner, anchor, batch, key, knobs)
        masks = boolean_masks(kept, self.network.full_widths)
        widths = [mask.sum() for mask in masks]
        zeroed: Learner = self.network.mask(learner, masks)
        others = self.network.mask(self.others, masks)
        updated, loss = self._update(zeroed, anchor, batch, key, knobs, others, widths, masks)
        return self.network.select(masks, updated, learner), loss

    def compact(
        self, learner: Learner, anchor: Any, batch: Batch, key: jax.Array, kept: Kept, knobs: Knobs = ALL_TRAINED
    ) -> tuple[Learner, jax.Array]:
        """The same step on the smaller arrays of the sub-network; with all filters kept it is `ordinary`.

        Args:
          learner: As for `ordinary`; of the full network, whose dropped elements stay as they are.
          anchor: As for `ordinary`.
          batch: The mini-batch.
          key: As for `ordinary`.
          kept: Filters that are kept, int [width] for each group.
          knobs: As for `ordinary`.

        Returns:
          The new learner, of the full network, and the mean loss of the mini-batch, [].
        """
        if self._keeps_all(kept):
            return self.ordinary(learner, anchor, batch, key, knobs)
        return self._within(
            kept, learner, anchor, lambda step, small, anchor: step.ordinary(small, anchor, batch, key, knobs)
        )

    def masked_within(
        self,
        learner: Learner,
        anchor: Any,
        batch: Batch,
        key: jax.Array,
        within: Kept,
        kept: Kept,
        knobs: Knobs = ALL_TRAINED,
    ) -> tuple[Learner, jax.Array]:
        """The masked step of a sub-network inside a larger one that is compact: one compilation serves all that fit in it.

        Args:
          learner: Full parameters and optimiser state.
          anchor: The global parameters that the round began with.
          batch: The mini-batch.
          key: For the network's own random layers.
          within: For each group int [width], the filters of the larger sub-network.
          kept: For each group bool [filters]; all that are kept are among those of `within`.
          knobs: What else is chosen.

        Returns:
          The same update as `masked`, to rounding.
        """
        if self._keeps_all(within):
            return self.masked(learner, anchor, batch, key, kept, knobs)
        inside = [mask[chosen] for mask, chosen in zip(kept, within, strict=True)]
        return self._within(
            within, learner, anchor, lambda step, small, anchor: step.masked(small, anchor, batch, key, inside, knobs)
        )

    def _within(
        self,
        within: Kept,
        learner: Learner,
        anchor: Any,
        run: Callable[["LocalStep", Learner, Any], tuple[Learner, jax.Array]],
    ) -> tuple[Learner, jax.Array]:
        """A step on a sub-network's smaller arrays: `run` is given its step, its part of the learner and of the anchor."""
        narrowed = dataclasses.replace(
            self,
            network=self.network.narrowed([len(chosen) for chosen in within]),
            others=self.network.take(self.others, within),
            part=within,
        )
        small: Learner = self.network.take(learner, within)
        updated, loss = run(narrowed, small, self.network.take(anchor, within) if self.proximal else None)
        return self.network.put(learner, updated, within), loss

    def first_state(self, params: Any) -> Any:
        """The optimiser's state before the first step; it is kept in float32 at least."""
        return self.optimizer.init(in_full_precision(params))

    def _check_state(self, params: Any) -> None:
        kept = [jnp.arange(1) for _ in self.network.full_widths]
        taken = jax.eval_shape(lambda params: self.network.take(self.first_state(params), kept), params)
        fresh = jax.eval_shape(lambda params: self.first_state(self.network.take(params, kept)), params)
        if jax.tree.map(jnp.shape, taken) != jax.tree.map(jnp.shape, fresh):
            raise InputError(
                "the devices' optimiser keeps state of other shapes than the parameters', such as Adafactor's factors, which"
                " dropped filters have no share of; take one that keeps a value for each parameter, such as SGD or Adam"
            )

    def _keeps_all(self, kept: Kept) -> bool:
        return tuple(len(chosen) for chosen in kept) == self.network.full_widths

    def _update(
        self,
        learner: Learner,
        anchor: Any,
        batch: Batch,
        key: jax.Array,
        knobs: Knobs,
        others: Any,
        widths: Sequence[int | jax.Array],
        masks: Kept | None = None,
    ) -> tuple[Learner, jax.Array]:
        def loss_of(params: Any) -> jax.Array:
            outputs, _ = forward(
                self.network,
                params,
                others,
                batch.inputs,
                train=True,
                convolution=self.convolution,
                kept=masks,
                part=self.part,
                rescaled=widths if self.rescale else None,
                key=key,
            )
            return in_full_precision(self.task.losses(outputs, batch)).mean()

        of_params = gradient_in_form(self.convolution, lambda params: self._gradients(loss_of, params, knobs))
        loss, gradients = of_params(learner.params)
        params, gradients = in_full_precision((learner.params, gradients))
        if self.proximal:
            gradients = jax.tree.map(
                lambda gradient, now, then: gradient + self.proximal * (now - then), gradients, params, anchor
            )
        if masks is not None:
            gradients = self.network.mask(gradients, masks)
        if knobs.frozen is not None or knobs.depth:  # a gradient that is clipped to a norm is that of what is trained
            gradients = self._unfrozen(knobs, gradients, jax.tree.map(jnp.zeros_like, gradients))
        updates, opt_state = self.optimizer.update(gradients, learner.opt_state, params)
        if knobs.step_factor is not None:
            factor = knobs.step_factor
            updates = jax.tree.map(lambda update: (factor * update).astype(update.dtype), updates)
        after = Learner(optax.apply_updates(learner.params, updates), opt_state)
        return self._unfrozen(knobs, after, learner), loss.astype(jnp.float32)

    def _gradients(self, loss_of: Callable[[Any], jax.Array], params: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """The loss and its gradients by all parameters; no backward pass is computed below the first trained layer."""
        if not knobs.depth:
            return jax.value_and_grad(loss_of)(params)
        leaves, tree = jax.tree.flatten(params)
        marks = jax.tree.leaves(self.network.trained(params, knobs.depth))
        trained = [leaf for leaf, mark in zip(leaves, marks, strict=True) if mark]

        def of_trained(trained: list[jax.Array]) -> jax.Array:
            rest = iter(trained)
            every = [next(rest) if mark else leaf for leaf, mark in zip(leaves, marks, strict=True)]
            return loss_of(jax.tree.unflatten(tree, every))

        loss, gradients = jax.value_and_grad(of_trained)(trained)
        found = iter(gradients)
        every = [next(found) if mark else jnp.zeros_like(leaf) for leaf, mark in zip(leaves, marks, strict=True)]
        return loss, jax.tree.unflatten(tree, every)

    def _unfrozen(self, knobs: Knobs, trained: Any, frozen: Any) -> Any:
        """The first tree where layers are trained, the second where they are frozen."""
        if knobs.depth:
            trained = self.network.select_trained(knobs.depth, trained, frozen)
        return trained if knobs.frozen is None else self.network.select_trained(knobs.frozen, trained, frozen)


def hyperparameters_in(state: Any) -> list[Any]:
    """The hyperparameters that an optimiser keeps in its state: a dict for each `optax.inject_hyperparams` in it."""
    return [part.hyperparams for part in jax.tree.leaves(state, is_leaf=_keeps_them) if _keeps_them(part)]


def with_hyperparameters(state: Any, hyperparameters: list[Any]) -> Any:
    """The state with others in place of them; those that follow a schedule are computed anew in each step all the same."""
    others = iter(hyperparameters)

    def replaced(part: Any) -> Any:
        return part._replace(hyperparams=next(others)) if _keeps_them(part) else part

    return jax.tree.map(replaced, state, is_leaf=_keeps_them)


def _keeps_them(part: Any) -> bool:
    return isinstance(part, optax.InjectStatefulHyperparamsState)
