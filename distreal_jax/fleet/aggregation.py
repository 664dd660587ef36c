"""How the server averages: sums that clients can be added to one block after the other.

The new model is the old one plus the server optimiser's step along the mean of the clients' changes. FedAvg's mean is over
all clients; the covered mean (HeteroFL, FjORD, FedRolex, dropout) is, for each element, over those that trained
it, and what nobody trained keeps its old value. (McMahan et al., AISTATS 2017; Reddi et al., ICLR 2021; Diao et al., ICLR 2021.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Sums(NamedTuple):
    """Weighted sums over clients so far."""

    changes: Any  # of (client - global), the tree of the parameters
    weights: Any  # a scalar, or the tree of the parameters for the covered mean
    loss: jax.Array  # of the mean losses of clients
    clients: jax.Array  # that were averaged
    left_out: jax.Array  # clients whose update was not finite

    def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        return Sums(*jax.tree.map(jnp.add, tuple(self), tuple(other)))


class Server(NamedTuple):
    """The server's state."""

    params: Any
    opt_state: Any


def no_clients(params: Any, *, covered: bool) -> Sums:
    """The sums before any client is added."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    zero = jnp.zeros(())
    return Sums(zeros, zeros if covered else zero, zero, zero, zero)


def sums_of(params: Any, trained: Any, weights: jax.Array, losses: jax.Array, coverage: Any | None) -> Sums:
    """The sums over a block of clients; a client whose update is not finite is left out and counted.

    Args:
      params: The global parameters.
      trained: The clients' parameters, leaves [block, ...].
      weights: [block]; 0 for a client that uploads nothing.
      losses: [block], mean loss of each client's mini-batches.
      coverage: For the covered mean, leaves [block, ...] of 0 and 1: the elements that each client trained.
    """
    changes = jax.tree.map(lambda after, before: after - before[None], trained, params)
    finite = jnp.isfinite(losses)
    for change in jax.tree.leaves(changes):
        finite &= jnp.isfinite(change).reshape(len(losses), -1).all(axis=1)
    counted = finite & (weights > 0)
    share = jnp.where(counted, weights, 0.0)

    def weighted(leaf: jax.Array) -> jax.Array:
        finite_leaf = jnp.where(counted.reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, 0.0)
        return jnp.tensordot(share, finite_leaf, axes=1)

    return Sums(
        jax.tree.map(weighted, changes),
        share.sum() if coverage is None else jax.tree.map(weighted, coverage),
        jnp.where(counted, losses, 0.0).sum(),
        counted.sum().astype(jnp.float32),
        (~finite & (weights > 0)).sum().astype(jnp.float32),
    )


def server_step(server: Server, sums: Sums, optimizer: optax.GradientTransformation) -> Server:
    """Averages and lets the server's optimiser take one step; plain FedAvg is `optax.sgd(1.0)`.

    Where no weight has come together, the change is zero.
    """

    def mean(change: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.where(weight > 0, change / jnp.where(weight > 0, weight, 1.0), 0.0)

    if isinstance(sums.weights, jax.Array):
        change = jax.tree.map(lambda leaf: mean(leaf, sums.weights), sums.changes)
    else:
        change = jax.tree.map(mean, sums.changes, sums.weights)
    pseudo_gradient = jax.tree.map(jnp.negative, change)
    updates, opt_state = optimizer.update(pseudo_gradient, server.opt_state, server.params)
    return Server(optax.apply_updates(server.params, updates), opt_state)
