"""The draws of a round: uniform, from the right client, and the same whoever else takes part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distreal_jax.data.partition import Partition
from distreal_jax.data.sampling import batch_indices, sample_clients
from distreal_jax.errors import InputError

SHARDS = Partition.from_lists([[10, 11, 12], [0], [1, 2, 3, 4, 5, 6, 7, 8], [20, 21]], num_examples=22)


@given(st.integers(1, 300), st.data(), st.integers(0, 2**64), st.integers(0, 10_000))
def test_the_clients_of_a_round_are_distinct_and_exist(num_clients, data, seed, round_index):
    per_round = data.draw(st.integers(1, num_clients))
    clients = sample_clients(seed, round_index, num_clients, per_round)
    assert clients.shape == (per_round,) and clients.dtype == np.int64
    assert len(set(clients.tolist())) == per_round
    assert clients.min() >= 0 and clients.max() < num_clients


def test_every_client_is_sampled_equally_often():
    rounds = 2000
    times = np.bincount(np.concatenate([sample_clients(0, index, 10, 3) for index in range(rounds)]))
    deviation = np.sqrt(rounds * 0.3 * 0.7)
    assert np.abs(times - rounds * 0.3).max() < 5 * deviation


def test_the_sample_is_a_function_of_seed_and_round():
    draws = {(seed, index): sample_clients(seed, index, 100, 10).tolist() for seed in (0, 1) for index in (0, 1)}
    assert len({tuple(draw) for draw in draws.values()}) == 4
    assert sample_clients(1, 0, 100, 10).tolist() == draws[1, 0]


def test_a_thousand_of_a_million_clients_can_be_sampled():
    clients = sample_clients(0, 0, 1_000_000, 1000)
    assert len(np.unique(clients)) == 1000
    assert clients.mean() == pytest.approx(500_000, rel=0.1)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**64), st.integers(0, 10_000))
def test_a_client_goes_through_all_its_examples_before_it_sees_one_again(steps, batch_size, seed, round_index):
    batches = batch_indices(seed, round_index, np.arange(4), SHARDS, steps=steps, batch_size=batch_size)
    assert batches.shape == (4, steps, batch_size) and batches.dtype == np.int32
    for client, seen in enumerate(batches.reshape(4, -1)):
        own = SHARDS.examples_of(client)
        for start in range(0, len(seen), len(own)):
            one_pass = seen[start : start + len(own)]
            assert len(set(one_pass.tolist())) == len(one_pass)
            assert set(one_pass.tolist()) <= set(own.tolist())


@given(st.lists(st.integers(0, 3), min_size=1, unique=True), st.integers(0, 99))
def test_the_batches_of_a_client_do_not_depend_on_who_else_takes_part(clients, seed):
    everyone = batch_indices(seed, 5, np.arange(4), SHARDS, steps=3, batch_size=4)
    some = batch_indices(seed, 5, np.array(clients), SHARDS, steps=3, batch_size=4)
    np.testing.assert_array_equal(some, everyone[clients])


def test_more_steps_only_append_to_fewer():
    few = batch_indices(0, 0, np.arange(4), SHARDS, steps=2, batch_size=5)
    many = batch_indices(0, 0, np.arange(4), SHARDS, steps=6, batch_size=5)
    np.testing.assert_array_equal(few, many[:, :2])


def test_every_round_pass_client_and_seed_has_its_own_order():
    shards = Partition.from_lists([range(50), range(50, 100)], num_examples=100)
    orders = [
        tuple(one_pass - 50 * client)
        for seed in (0, 1)
        for round_index in (0, 1)
        for client in (0, 1)
        for one_pass in batch_indices(seed, round_index, np.array([client]), shards, steps=2, batch_size=50)[0]
    ]
    assert len(set(orders)) == len(orders) == 16


def test_every_example_comes_first_equally_often():
    rounds = 2000
    first = [batch_indices(0, index, np.array([2]), SHARDS, steps=1, batch_size=1).item() for index in range(rounds)]
    times = np.bincount(first)[1:]
    assert np.abs(times - rounds / 8).max() < 5 * np.sqrt(rounds * 7 / 64)


@pytest.mark.parametrize("per_round", [0, -1, 11])
def test_a_round_of_nobody_or_of_more_than_there_are_is_refused(per_round):
    with pytest.raises(InputError, match=f"{per_round} clients a round of 10 clients; expected 1 to 10"):
        sample_clients(0, 0, 10, per_round)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"steps": 0}, "0 steps of batch size 2"),
        ({"batch_size": 0}, "1 steps of batch size 0"),
        ({"clients": np.array([4])}, "client 4 does not exist"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_batches_that_can_not_be_drawn_end_in_one_clear_line(changes, complaint):
    arguments = {"seed": 0, "clients": np.array([0]), "steps": 1, "batch_size": 2} | changes
    with pytest.raises(InputError, match=complaint):
        batch_indices(round_index=0, partition=SHARDS, **arguments)
