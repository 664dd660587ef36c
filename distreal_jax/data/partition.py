"""Which client holds which training examples: iid, Dirichlet label skew, or the natural owners of the data.

A partition is two flat arrays, so that one over a million clients costs no more than its examples.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from distreal_jax.data.random_streams import random_stream
from distreal_jax.errors import InputError, choose_from
from distreal_jax.settings import Within

ALPHAS = Within(1e-300, 1e300)  # chosen by us: what numpy's Dirichlet draws from
PARTITIONS = ("iid", "dirichlet", "natural")

Examples = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """Disjoint, non-empty sets of training examples, one for each client.

    Attributes:
      indices: int32 [examples], the training examples held, client after client.
      offsets: int64 [clients + 1]; client i holds `indices[offsets[i]:offsets[i + 1]]`.

    Raises:
      InputError: A client is empty, an example is held twice, or the arrays do not fit together.
    """

    indices: Examples
    offsets: Integers

    def __post_init__(self) -> None:
        if self.num_clients < 1:
            raise InputError("a partition without clients; at least one client has to hold examples")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.indices) or self.sizes.min() < 0:
            raise InputError(f"the offsets of a partition have to rise from 0 to its {len(self.indices)} examples")
        if not self.sizes.min():
            empty = np.flatnonzero(self.sizes == 0)
            raise InputError(
                f"{len(empty)} of {self.num_clients} clients are empty, the first is client {empty[0]}; "
                "give every client at least one training example, or leave the client out"
            )
        if self.indices.min() < 0:
            raise InputError(f"a partition holds example {self.indices.min()}; examples are numbered from 0")
        held = np.bincount(self.indices)
        if held.max() > 1:
            raise InputError(
                f"example {held.argmax()} is held {held.max()} times; the clients' examples have to be disjoint"
            )

    @classmethod
    def from_lists(cls, lists: Sequence[npt.ArrayLike], num_examples: int) -> "Partition":
        """The partition in which client i holds the examples `lists[i]`.

        Args:
          lists: For each client the indices of its training examples.
          num_examples: How many training examples the data set has.

        Raises:
          InputError: A client is empty, an example is held twice, or an index is not in [0, num_examples).
        """
        clients = [np.asarray(examples) for examples in lists]
        for client, examples in enumerate(clients):
            if examples.ndim != 1 or (examples.size and not np.issubdtype(examples.dtype, np.integer)):
                raise InputError(
                    f"client {client} holds {examples.dtype} {examples.shape}; expected a list of example indices"
                )
            if examples.size and not 0 <= examples.min() <= examples.max() < num_examples:
                outside = examples.max() if examples.min() >= 0 else examples.min()
                raise InputError(
                    f"client {client} holds example {outside}; the data set has examples 0 to {num_examples - 1}"
                )
        indices = np.concatenate([np.zeros(0, np.int32), *clients]).astype(np.int32)
        return cls(indices, _offsets(np.array([len(examples) for examples in clients], np.int64)))

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Integers:
        """int64 [clients], how many training examples each client holds."""
        return np.diff(self.offsets)

    def examples_of(self, client: int) -> Examples:
        """int32 [size], the training examples that a client holds; raises `InputError` for a client that does not exist."""
        if not 0 <= client < self.num_clients:
            raise InputError(f"client {client} does not exist; the partition has clients 0 to {self.num_clients - 1}")
        return self.indices[self.offsets[client] : self.offsets[client + 1]]


def make_partition(
    kind: str,
    labels: npt.NDArray[np.integer],
    num_clients: int | None,
    *,
    seed: int,
    alpha: float = 0.1,
    natural_clients: npt.NDArray[np.integer] | None = None,
    min_examples: int = 1,
) -> Partition:
    """Splits training examples over clients.

    `iid`: examples at random, sizes that differ by one at most.

    `dirichlet`: for each class, the clients' shares are drawn from a symmetric Dirichlet distribution (Yurochkin et al.,
    ICML 2019, arXiv 1905.12022; Hsu et al., 2019, arXiv 1909.06335, draw the classes of each client instead). Public code
    draws everything again until no client is too small, which for many clients or a small alpha never ends; here the
    clients with most examples give up the fewest that fill the others to `min_examples`, and the rest of the draw stands.

    `natural`: each owner (the writer of a digit) is a client, in the order of the owners' numbers. With `num_clients` below
    the number of owners, that many are drawn; a larger draw of the same seed contains the smaller ones, and the examples of
    the others go unused. Owners of fewer than `min_examples` examples are left out.

    Args:
      kind: One of `PARTITIONS`.
      labels: Integers [examples], the class of each training example.
      num_clients: How many clients; None, for `natural` only: all owners.
      seed: The experiment's seed, 0 or above.
      alpha: Concentration of the Dirichlet distribution; the smaller, the fewer classes a client has.
      natural_clients: Integers [examples], the owner of each training example; needed by `natural` only.
      min_examples: The fewest examples that a client may hold.

    Raises:
      InputError: An unknown kind, more clients than examples or owners allow, a set without owners, or a value out of range.
    """
    if kind not in PARTITIONS:
        raise InputError(f"unknown partition {kind!r}; {choose_from(kind, PARTITIONS)}")
    if labels.ndim != 1 or not labels.size:
        raise InputError(f"labels of shape {labels.shape}; a partition needs one label for each of at least one example")
    if min_examples < 1:
        raise InputError(f"min_examples is {min_examples}; every client has to hold at least 1 example")
    if num_clients is not None and num_clients < 1:
        raise InputError(f"{num_clients} clients; at least 1 is needed")
    generator = random_stream(seed, f"{kind} partition")
    if kind == "natural":
        if natural_clients is None:
            raise InputError(
                "the data set names no natural clients; use partition iid or dirichlet, or data set mnist_writers"
            )
        if natural_clients.shape != labels.shape:
            raise InputError(f"{len(natural_clients)} owners for {len(labels)} examples; each example needs one owner")
        return _natural(natural_clients, num_clients, min_examples, generator)
    if num_clients is None:
        raise InputError(f"partition {kind} needs the number of clients; only natural can take it from the data")
    if num_clients * min_examples > len(labels):
        raise InputError(
            f"{num_clients} clients of at least {min_examples} examples need {num_clients * min_examples} training examples "
            f"and the data set has {len(labels)}; use fewer clients"
        )
    if kind == "iid":
        sizes = len(labels) // num_clients + (np.arange(num_clients) < len(labels) % num_clients)
        return Partition(generator.permutation(len(labels)).astype(np.int32), _offsets(sizes))
    if alpha not in ALPHAS:
        raise InputError(f"alpha {alpha} of the Dirichlet partition; expected a number {ALPHAS}, such as 0.1")
    owners = _dirichlet_owners(labels, num_clients, alpha, generator)
    return _held_by(_filled_up(owners, num_clients, min_examples, generator), num_clients)


def _offsets(sizes: npt.NDArray[np.integer]) -> Integers:
    """int64 [clients + 1], where each client's examples start, and the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _held_by(owners: Integers, num_clients: int) -> Partition:
    """The partition in which example e belongs to client `owners[e]`, and to nobody if that is `num_clients`."""
    sizes = np.bincount(owners, minlength=num_clients)[:num_clients]
    return Partition(np.argsort(owners, kind="stable").astype(np.int32)[: sizes.sum()], _offsets(sizes))


def _dirichlet_owners(
    labels: npt.NDArray[np.integer], num_clients: int, alpha: float, generator: np.random.Generator
) -> Integers:
    """int64 [examples], the client of each example: each class cut into Dirichlet(alpha) shares."""
    owners = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        examples = generator.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(generator.dirichlet(np.full(num_clients, alpha)))
        # The middle of each example's place in the class: a share of nothing gets nothing, and rounding leaves nobody over.
        places = (np.arange(len(examples)) + 0.5) / len(examples) * ends[-1]
        owners[examples] = np.searchsorted(ends, places)
    return owners


def _filled_up(owners: Integers, num_clients: int, min_examples: int, generator: np.random.Generator) -> Integers:
    """Moves the fewest examples from the largest clients, levelling them from above, until all have `min_examples`."""
    sizes = np.bincount(owners, minlength=num_clients)
    missing = np.maximum(min_examples - sizes, 0)
    level, above = min_examples, int(sizes.max())
    while level < above:  # the highest level above which there are enough examples to give
        middle = (level + above + 1) // 2
        level, above = (middle, above) if np.maximum(sizes - middle, 0).sum() >= missing.sum() else (level, middle - 1)
    given = np.maximum(sizes - level, 0)
    spare = int(given.sum() - missing.sum())
    given[np.flatnonzero(given)[:spare]] -= 1
    order = np.lexsort((generator.random(len(owners)), owners))
    rank = np.arange(len(owners)) - np.repeat(_offsets(sizes)[:-1], sizes)
    moved = order[rank < given[owners[order]]]
    filled = owners.copy()
    filled[generator.permutation(moved)] = np.repeat(np.arange(num_clients), missing)
    return filled


def _natural(
    natural_clients: npt.NDArray[np.integer], num_clients: int | None, min_examples: int, generator: np.random.Generator
) -> Partition:
    _, owners, sizes = np.unique(natural_clients, return_inverse=True, return_counts=True)
    able = np.flatnonzero(sizes >= min_examples)
    wanted = len(able) if num_clients is None else num_clients
    if not 0 < wanted <= len(able):
        raise InputError(
            f"{wanted or 'all'} natural clients asked for and {len(able)} of {len(sizes)} hold at least {min_examples} "
            "examples; ask for fewer clients or fewer examples"
        )
    chosen = np.sort(generator.permutation(able)[:wanted])
    client_of_owner = np.full(len(sizes), wanted)
    client_of_owner[chosen] = np.arange(wanted)
    return _held_by(client_of_owner[owners], wanted)
