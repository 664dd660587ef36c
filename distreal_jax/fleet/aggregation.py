"""How the server averages: sums that clients can be added to one block after the other.

The new model is the old one plus the server optimiser's step along the mean of the clients' changes. FedAvg's mean is over
all clients. The covered mean (HeteroFL, FjORD, FedRolex, dropout) is, for each element, over those that trained it, and what
nobody trained keeps its old value. The normalised mean (FedNova) is of changes per local step, times the mean number of
steps, so that a client which does more steps does not pull the model its way. (McMahan et al., AISTATS 2017; Reddi et al.,
ICLR 2021; Diao et al., ICLR 2021; Wang et al., NeurIPS 2020.)
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from distreal_jax.step import in_full_precision

_SMALL = 2**14  # elements of a leaf that is put beside others, at most; chosen by us: a CPU copies larger ones slowly


class Sums(NamedTuple):
    """Weighted sums over clients so far."""

    changes: Any  # of (client - global), the tree of the parameters
    weights: Any  # a scalar, or the tree of the parameters for the covered mean
    lengths: jax.Array  # of local paths, for the normalised mean
    loss: jax.Array  # of the mean losses of clients
    clients: jax.Array  # that were averaged
    left_out: jax.Array  # that uploaded something not finite, or have no weight

    def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        return Sums(*jax.tree.map(jnp.add, tuple(self), tuple(other)))


class Server(NamedTuple):
    """The server's state.

    Attributes:
      params: The global parameters.
      opt_state: Of the server's optimiser.
      scores: For methods that choose filters by what the server has seen (`next_scores`), float32 [filters] for each group;
        empty for others. Whatever a method keeps from round to round is here, so that checkpoints have it.
    """

    params: Any
    opt_state: Any
    scores: tuple[jax.Array, ...] = ()


def in_rows(tree: Any, lead: int = 0) -> Any:
    """A tree's leaves with the small ones side by side, so that a client's sums take few operations.

    A network has a hundred leaves, most of them small. Each operation takes time to compile, and on an accelerator it takes
    as long to begin one on a small array as on a large one.

    Args:
      tree: Of parameters, or of changes of them.
      lead: How many leading axes all leaves share, and keep.

    Returns:
      By name: for each type of number the small leaves of that type in the order of the tree, [leading axes, elements]; and
      each large leaf as it is, by its place in the tree.
    """
    rows: dict[str, Any] = {}
    small: dict[str, list[Any]] = {}
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        size = math.prod(leaf.shape[lead:])
        if size > _SMALL:
            rows[str(number)] = leaf
        else:
            small.setdefault(str(leaf.dtype), []).append(leaf.reshape(*leaf.shape[:lead], size))
    return rows | {kind: jnp.concatenate(leaves, axis=lead) for kind, leaves in small.items()}


def from_rows(rows: Any, like: Any) -> Any:
    """The tree again.

    Args:
      rows: As of `in_rows`, without leading axes; sums over them may be of a wider type.
      like: The tree whose rows they are, or are sums of.
    """
    leaves, tree = jax.tree.flatten(like)
    begun = dict.fromkeys(rows, 0)

    def taken(number: int, leaf: Any) -> jax.Array:
        if leaf.size > _SMALL:
            alone: jax.Array = rows[str(number)]
            return alone
        kind = str(leaf.dtype)
        begin, begun[kind] = begun[kind], begun[kind] + leaf.size
        part: jax.Array = rows[kind][begin : begun[kind]].reshape(leaf.shape)
        return part

    return jax.tree.unflatten(tree, [taken(number, leaf) for number, leaf in enumerate(leaves)])


def no_clients(params: Any, *, covered: bool) -> Sums:
    """The sums before any client is added."""
    zeros = jax.tree.map(jnp.zeros_like, in_full_precision(params))
    zero = jnp.zeros((), jnp.float32)
    return Sums(zeros, zeros if covered else zero, zero, zero, zero, zero)


def sums_of(
    params: Any,
    trained: Any,
    uploads: jax.Array,
    weights: jax.Array,
    losses: jax.Array,
    *,
    coverage: Any | None = None,
    lengths: jax.Array | None = None,
) -> Sums:
    """The sums over a block of clients; one whose update is not finite, or that has no data, is left out and counted.

    Args:
      params: The global parameters.
      trained: The clients' parameters, leaves [block, ...].
      uploads: bool [block], who uploads something.
      weights: [block], such as numbers of examples.
      losses: [block], mean loss of each client's mini-batches.
      coverage: For the covered mean, leaves [block, ...] of 0 and 1: the elements that each client trained.
      lengths: For the normalised mean, [block], local steps that each client's change amounts to.
    """
    trained, params, coverage = in_full_precision((trained, params, coverage))
    changes = jax.tree.map(lambda after, before: after - before[None], trained, params)
    if coverage is not None:  # a row of the classifier is trained, but not counted, where its class is absent
        changes = jax.tree.map(jnp.multiply, changes, coverage)
    # Stacked: a chain of so many `and` is computed anew for every element that it decides on.
    each = [jnp.isfinite(change).reshape(len(losses), -1).all(axis=1) for change in jax.tree.leaves(changes)]
    finite = jnp.stack([jnp.isfinite(losses), *each]).all(axis=0)
    counted = uploads & finite & (weights > 0)
    share = jnp.where(counted, weights, 0.0)
    length = jnp.ones_like(share) if lengths is None else jnp.where(counted, lengths, 1.0)

    def weighted(by: jax.Array, leaf: jax.Array) -> jax.Array:
        per_client = (-1,) + (1,) * (leaf.ndim - 1)
        # Product and sum fuse with the change itself; a tensordot would write the changes of all clients first.
        return (by.reshape(per_client) * jnp.where(counted.reshape(per_client), leaf, 0.0)).sum(axis=0)

    return Sums(
        jax.tree.map(functools.partial(weighted, share / length), changes),
        share.sum() if coverage is None else jax.tree.map(functools.partial(weighted, share), coverage),
        (share * length).sum(),
        jnp.where(counted, losses, 0.0).sum(),
        counted.sum().astype(jnp.float32),
        (uploads & ~counted).sum().astype(jnp.float32),
    )


def server_step(server: Server, sums: Sums, optimizer: optax.GradientTransformation) -> Server:
    """Averages the clients' changes; the server's optimiser takes one step. Plain FedAvg is `optax.sgd(1.0)`.

    An element without weight has a change of zero (a server's momentum may still move it). If no client sent anything, the
    server takes no step.

    Args:
      server: Before the step.
      sums: Weighted changes and weights of all clients, summed.
      optimizer: The server's; gets the negative mean change.
    """

    def mean(change: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.where(weight > 0, change / jnp.where(weight > 0, weight, 1.0), 0.0)

    if isinstance(sums.weights, jax.Array):
        steps = mean(sums.lengths, sums.weights)  # 1 but for the normalised mean
        change = jax.tree.map(lambda leaf: steps * mean(leaf, sums.weights), sums.changes)
    else:
        change = jax.tree.map(mean, sums.changes, sums.weights)
    pseudo_gradient = jax.tree.map(jnp.negative, change)
    updates, opt_state = optimizer.update(pseudo_gradient, server.opt_state, in_full_precision(server.params))
    after = Server(optax.apply_updates(server.params, updates), opt_state, server.scores)
    stepped: Server = jax.tree.map(lambda new, old: jnp.where(sums.clients > 0, new, old), after, server)
    return stepped


def rows_of_classes(trained: Any, class_axes: Any, classes: jax.Array) -> Any:
    """What a client trained, without the rows of classes of which it has no examples.

    Args:
      trained: 1 or 0 for each element, a pytree of the parameters' shapes.
      class_axes: For each leaf the axis along which classes lie; -1: none.
      classes: The classes that the client has, bool [classes].
    """

    def of_classes(leaf: jax.Array, axis: int) -> jax.Array:
        return leaf if axis < 0 else leaf * classes.reshape([-1 if a == axis else 1 for a in range(leaf.ndim)])

    return jax.tree.map(of_classes, trained, class_axes)
