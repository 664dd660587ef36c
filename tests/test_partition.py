"""Partitions: disjoint, complete, never empty, and distributed as their names say."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distreal_jax.data.partition import PARTITIONS, Partition, make_partition
from distreal_jax.errors import InputError


def class_counts(partition: Partition, labels: np.ndarray) -> np.ndarray:
    """[clients, classes], how many examples of each class each client holds."""
    return np.array(
        [
            np.bincount(labels[partition.examples_of(client)], minlength=labels.max() + 1)
            for client in range(partition.num_clients)
        ]
    )


@st.composite
def splits(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Labels, and as many clients of as many examples at least as they can fill."""
    labels = np.array(draw(st.lists(st.integers(0, 4), min_size=1, max_size=200)))
    num_clients = draw(st.integers(1, len(labels)))
    return labels, num_clients, draw(st.integers(1, len(labels) // num_clients))


@given(splits(), st.sampled_from(["iid", "dirichlet"]), st.floats(1e-300, 1e300), st.integers(0, 2**64))
def test_partitions_are_disjoint_and_complete_and_nobody_is_below_the_minimum(split, kind, alpha, seed):
    labels, num_clients, min_examples = split
    partition = make_partition(kind, labels, num_clients, seed=seed, alpha=alpha, min_examples=min_examples)
    assert partition.num_clients == num_clients
    assert partition.sizes.min() >= min_examples
    np.testing.assert_array_equal(np.sort(partition.indices), np.arange(len(labels)))


@given(st.lists(st.integers(-3, 40), min_size=1, max_size=200), st.integers(0, 99))
def test_a_natural_partition_gives_each_owner_all_of_its_examples(owners, seed):
    owners = np.array(owners)
    partition = make_partition("natural", np.zeros_like(owners), None, seed=seed, natural_clients=owners)
    for client, owner in enumerate(np.unique(owners)):
        np.testing.assert_array_equal(partition.examples_of(client), np.flatnonzero(owners == owner))
    assert len(partition.indices) == len(owners)


@pytest.mark.parametrize("kind", PARTITIONS)
def test_a_partition_is_a_function_of_its_seed(kind):
    labels, owners = np.arange(300) % 10, np.arange(300) // 6
    first, again, other = (
        make_partition(kind, labels, 7, seed=seed, natural_clients=owners).indices.tolist() for seed in (3, 3, 4)
    )
    assert first == again != other


def test_iid_sizes_differ_by_one_at_most():
    assert make_partition("iid", np.zeros(11, int), 4, seed=0).sizes.tolist() == [3, 3, 3, 2]


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_dirichlet_shares_have_the_moments_of_the_dirichlet_distribution(alpha):
    # For shares p of K clients from a symmetric Dirichlet(alpha), the expected sum of p**2 is (alpha + 1) / (K alpha + 1).
    clients, classes, examples = 10, 1000, 200
    labels = np.repeat(np.arange(classes), examples)
    shares = class_counts(make_partition("dirichlet", labels, clients, seed=1, alpha=alpha), labels) / examples
    assert (shares**2).sum(axis=0).mean() == pytest.approx((alpha + 1) / (clients * alpha + 1), rel=0.05)
    assert shares.mean(axis=1) == pytest.approx(np.full(clients, 1 / clients), abs=0.04)


def test_dirichlet_of_large_alpha_gives_every_client_the_same_classes():
    labels = np.arange(1000) % 10
    counts = class_counts(make_partition("dirichlet", labels, 10, seed=0, alpha=1e9), labels)
    assert np.abs(counts - 10).max() <= 1


def test_dirichlet_of_tiny_alpha_gives_a_class_to_one_client_and_fills_the_others_to_the_minimum():
    labels = np.arange(200) % 2
    partition = make_partition("dirichlet", labels, 20, seed=0, alpha=1e-12, min_examples=3)
    assert (partition.sizes == 3).sum() >= 18
    assert partition.sizes.max() >= (200 - 18 * 3) // 2


def test_filling_up_leaves_a_draw_that_needs_none_as_it_is():
    labels = np.arange(600) % 3
    free, filled = (make_partition("dirichlet", labels, 5, seed=0, alpha=1.0, min_examples=least) for least in (1, 10))
    assert free.sizes.min() >= 10
    np.testing.assert_array_equal(free.indices, filled.indices)


def test_fewer_natural_clients_are_drawn_from_all_and_are_among_the_more():
    owners = np.repeat([7, 3, 900, 12, 5], [4, 3, 2, 5, 1])

    def chosen(count: int) -> set[int]:
        partition = make_partition("natural", np.zeros(15, int), count, seed=2, natural_clients=owners)
        assert partition.num_clients == count
        held = [set(owners[partition.examples_of(client)]) for client in range(count)]
        assert all(len(client) == 1 for client in held)
        return set.union(*held)

    groups = [chosen(count) for count in (1, 2, 3, 4, 5)]
    assert all(fewer < more for fewer, more in itertools.pairwise(groups))
    assert {
        owner
        for seed in range(30)
        for owner in owners[make_partition("natural", owners, 1, seed=seed, natural_clients=owners).indices]
    } == set(owners)


def test_natural_clients_below_the_minimum_are_left_out():
    owners = np.repeat([7, 3, 900], [4, 1, 2])
    partition = make_partition("natural", owners, None, seed=0, natural_clients=owners, min_examples=2)
    assert [sorted(set(owners[partition.examples_of(client)])) for client in range(2)] == [[7], [900]]


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_a_million_clients_can_be_partitioned(kind):
    partition = make_partition(kind, np.arange(1_000_000) % 10, 1_000_000, seed=0)
    assert (partition.sizes == 1).all()


def test_a_partition_from_lists_holds_the_lists():
    partition = Partition.from_lists([[4, 0], [2], [1, 3, 5]], num_examples=7)
    assert partition.num_clients == 3
    assert partition.sizes.tolist() == [2, 1, 3]
    assert partition.examples_of(2).tolist() == [1, 3, 5]
    assert (partition.indices.dtype, partition.offsets.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize(
    ("lists", "complaint"),
    [
        ([[0], [], [1]], "1 of 3 clients are empty, the first is client 1"),
        ([[0, 1], [2, 0]], "example 0 is held 2 times"),
        ([[0], [3]], "client 1 holds example 3; the data set has examples 0 to 2"),
        ([[0], [-1]], "client 1 holds example -1"),
        ([[0.5]], "expected a list of example indices"),
        ([[[0]]], "expected a list of example indices"),
        ([], "without clients"),
    ],
)
def test_a_partition_rejects_lists_that_are_empty_overlap_or_leave_the_data(lists, complaint):
    with pytest.raises(InputError, match=complaint):
        Partition.from_lists(lists, num_examples=3)


@pytest.mark.parametrize(
    ("indices", "offsets", "complaint"),
    [([0, 1], [0, 0, 2], "empty"), ([0, 1], [0, 3], "offsets"), ([0, 1], [1, 2], "offsets"), ([0, -1], [0, 2], "from 0")],
)
def test_a_partition_rejects_arrays_that_do_not_fit_together(indices, offsets, complaint):
    with pytest.raises(InputError, match=complaint):
        Partition(np.array(indices, np.int32), np.array(offsets, np.int64))


def test_a_client_that_does_not_exist_has_no_examples():
    with pytest.raises(InputError, match="clients 0 to 1"):
        Partition.from_lists([[0], [1]], num_examples=2).examples_of(-1)


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        ("noniid", {}, "unknown partition 'noniid'; choose from: iid, dirichlet, natural"),
        ("iid", {"num_clients": 11}, "11 clients of at least 1 examples need 11 training examples and the data set has 10"),
        ("dirichlet", {"num_clients": 4, "min_examples": 3}, "4 clients of at least 3 examples need 12"),
        ("iid", {"num_clients": None}, "needs the number of clients"),
        ("iid", {"num_clients": 0}, "at least 1 is needed"),
        ("iid", {"min_examples": 0}, "min_examples is 0"),
        ("iid", {"labels": np.zeros((2, 2), int)}, "one label for each"),
        ("iid", {"seed": -1}, "seed -1 is negative"),
        ("dirichlet", {"alpha": 0.0}, "alpha 0.0"),
        ("dirichlet", {"alpha": float("nan")}, "alpha nan"),
        ("dirichlet", {"alpha": float("inf")}, "alpha inf"),
        ("natural", {}, "names no natural clients"),
        ("natural", {"natural_clients": np.arange(3)}, "3 owners for 10 examples"),
        ("natural", {"natural_clients": np.arange(10) // 5, "num_clients": 3}, "3 natural clients asked for and 2 of 2"),
        ("natural", {"natural_clients": np.arange(10), "num_clients": None, "min_examples": 2}, "all natural .* 0 of 10"),
    ],
)
def test_a_partition_that_can_not_be_made_ends_in_one_clear_line(kind, changes, complaint):
    arguments = {"labels": np.arange(10) % 2, "num_clients": 2, "seed": 0} | changes
    with pytest.raises(InputError, match=complaint) as raised:
        make_partition(kind, **arguments)
    assert "\n" not in str(raised.value)
