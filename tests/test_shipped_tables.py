"""The tables that come with the package: of our networks, Pareto-optimal as far as was measured, and traceable."""

import importlib.resources
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distreal_jax.networks import make_network
from distreal_jax.table import DropoutTable
from distreal_jax.tracing import TracedNetwork, trace_network

IMAGES = {
    "digits_cnn": (8, 8, 1),
    "digits_cnn_every_knob": (8, 8, 1),  # of the same network
    "resnet20_digits_every_knob": (8, 8, 1),
    "densenet40_digits_every_knob": (8, 8, 1),
    "resnet20_cifar16_every_knob": (16, 16, 3),
    "small_cnn": (28, 28, 1),
    "leaf_cnn": (28, 28, 1),
    "resnet20": (32, 32, 3),
    "densenet40": (32, 32, 3),
}
LEAST_COST = 0.05  # what every topology here allows: residual streams and concatenations are groups like any other


@pytest.fixture(scope="module", params=IMAGES)
def shipped(request: pytest.FixtureRequest) -> tuple[TracedNetwork, DropoutTable]:
    name, shape = request.param, IMAGES[request.param]
    model = make_network(re.sub("(_digits|_cifar16)?_every_knob$", "", name), image_shape=shape, num_classes=10, seed=0)
    return trace_network(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32)), DropoutTable.load(name)


def test_every_shipped_table_is_tested_here() -> None:
    files = importlib.resources.files("distreal_jax").joinpath("tables").iterdir()
    assert {file.name for file in files} == {f"{name}.json" for name in IMAGES}


def test_it_is_for_the_network_of_its_name(shipped: tuple[TracedNetwork, DropoutTable]) -> None:
    network, table = shipped
    assert table.checked_for(network) is table
    assert {own.network for own in DropoutTable.all_shipped_for(network).values()} == {table.network}
    assert table.group_names == tuple(group.name for group in network.filter_groups)


def test_its_costs_are_the_networks_own_count_and_increase(shipped: tuple[TracedNetwork, DropoutTable]) -> None:
    network, table = shipped
    macs = [entry.macs for entry in table.entries]
    assert macs == [network.training_macs(entry.widths, entry.depth) for entry in table.entries]
    assert np.all(np.diff(table.costs()) > 0)
    assert table.full_macs == network.training_macs()


def test_a_network_s_own_table_drops_filters_alone() -> None:
    """As the paper's does; the table with every knob is asked for by its name."""

    def network(name: str) -> TracedNetwork:
        return trace_network(make_network(name, image_shape=(8, 8, 1), num_classes=10, seed=0), np.zeros((1, 8, 8, 1)))

    assert DropoutTable.shipped_for(network("digits_cnn")) == DropoutTable.load("digits_cnn")
    assert DropoutTable.shipped_for(network("resnet20")) is None  # there is one of every knob alone


def test_no_entry_is_dominated(shipped: tuple[TracedNetwork, DropoutTable]) -> None:
    _, table = shipped
    progress = [entry.progress for entry in table.entries]
    assert all(value is not None and np.isfinite(value) for value in progress)
    assert progress == sorted(set(progress))
    assert all((entry.progress_stderr or 0) > 0 for entry in table.entries)


def test_it_spans_a_twentieth_to_all_of_the_full_cost(shipped: tuple[TracedNetwork, DropoutTable]) -> None:
    network, table = shipped
    assert table.costs()[0] <= LEAST_COST
    assert table.entries[-1].widths == network.full_widths


def test_it_can_be_traced_to_command_seed_data_commit_versions_and_machine(
    shipped: tuple[TracedNetwork, DropoutTable],
) -> None:
    _, table = shipped
    provenance = table.provenance
    assert "experiments/search.py" in provenance["command"] and "--model" in provenance["command"]
    assert isinstance(provenance["search"]["settings"]["seed"], int)
    assert provenance["dataset"] in ("digits", "fashion_mnist", "cifar10", "cifar10 at 16x16")
    assert len(provenance["commit"]["hash"]) == 40 and not provenance["commit"]["dirty"]
    assert {"jax", "flax", "optax", "python"} <= set(provenance["versions"])
    assert provenance["cpu"] or provenance["accelerators"]
    assert json.loads(json.dumps(dict(provenance))) == dict(provenance)
