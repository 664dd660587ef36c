"""Claims about dropout tables: what they select, what they cost, and that a file is read back exactly or refused."""

import dataclasses
import itertools
import json
import os
import re
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from distreal_jax.document import write_document
from distreal_jax.errors import InputError
from distreal_jax.table import Configuration, DropoutTable, TableEntry, kept_filters
from distreal_jax.table import file as table_file
from distreal_jax.tracing import FilterGroup
from distreal_jax.tracing.order import LayerOrder


@dataclasses.dataclass(frozen=True)
class Chain:
    """A network whose cost fits on a line: two convolutional groups a and b, one dense group d, and the output.

    So that costs are added up at a glance, training takes as much as the forward pass of the layers that are trained.
    """

    filters: tuple[int, ...] = (4, 8, 5)

    @property
    def filter_groups(self):
        return tuple(FilterGroup(*group) for group in zip("abd", self.filters, ("conv", "conv", "dense"), strict=True))

    @property
    def full_widths(self):
        return self.filters

    @property
    def order(self):
        return LayerOrder(("a", "b", "d", "output"), {})

    def macs(self, widths=None):
        return self.training_macs(widths)

    def training_macs(self, widths=None, depth=0):
        a, b, d = self.filters if widths is None else widths
        return int(sum((9 * a, 2 * a * b, 3 * b * d, d)[depth:]))

    def signature(self):
        return "".join(f"{count:04x}" for count in self.filters)


NETWORK = Chain()


def searched_table(**changes) -> DropoutTable:
    """Three entries of 31, 99 and 225 MACs."""
    table = DropoutTable.from_widths(
        NETWORK,
        [(4, 8, 5), (1, 1, 5), (2, 4, 5)],
        progress=[0.3, 0.1, 0.2],
        progress_stderr=[0.01, 0.02, 0.03],
        provenance={"command": "search.py", "seed": 0},
    )
    return dataclasses.replace(table, **changes)


def test_rates_are_rounded_to_the_nearest_width_and_halves_to_the_even_one():
    assert kept_filters([10, 10, 3, 5], [0.24, 0.26, 0.5, 0.5]).tolist() == [8, 7, 2, 2]


@hypothesis.given(st.lists(st.tuples(st.integers(1, 600), st.floats(0, 0.999999)), min_size=1, max_size=5))
def test_widths_keep_at_least_one_filter_and_fall_with_the_rate(groups):
    filters, rates = np.array([count for count, _ in groups]), np.array([rate for _, rate in groups])
    widths, narrower = kept_filters(filters, rates), kept_filters(filters, (rates + 1) / 2 - 1e-9)
    assert widths.dtype == np.int32
    assert (widths >= 1).all() and (narrower >= 1).all() and (widths <= filters).all() and (narrower <= widths).all()
    assert (np.abs(widths - filters * (1 - rates)) <= np.maximum(0.5, 1 - filters * (1 - rates))).all()


def test_uniform_tables_drop_convolutional_filters_only():
    table = DropoutTable.uniform(NETWORK, [0.0, 0.5, 0.75])
    assert [entry.widths for entry in table.entries] == [(1, 2, 5), (2, 4, 5), (4, 8, 5)]
    assert [entry.macs for entry in table.entries] == [9 + 4 + 30 + 5, 18 + 16 + 60 + 5, 36 + 64 + 120 + 5]
    assert all(entry.progress is None for entry in table.entries)


def test_uniform_tables_drop_dense_units_too_if_asked():
    assert DropoutTable.uniform(NETWORK, [0.5], dense=True).entries[0].widths == (2, 4, 2)


def test_rates_that_keep_the_same_filters_make_one_entry():
    assert [entry.widths for entry in DropoutTable.uniform(NETWORK, [0.5, 0.51, 0.5]).entries] == [(2, 4, 5)]


@pytest.mark.parametrize(
    ("rates", "message"), [([-0.1], "-0.1"), ([0.5, 1.0], "rate 1 "), ([np.nan], "nan"), ([], "one entry")]
)
def test_rates_outside_their_range_are_refused(rates, message):
    with pytest.raises(InputError, match=message):
        DropoutTable.uniform(NETWORK, rates)


def test_the_full_table_is_the_full_network():
    table = DropoutTable.full(NETWORK)
    assert [entry.widths for entry in table.entries] == [(4, 8, 5)]
    assert table.costs().tolist() == [1.0]


def test_entries_are_sorted_by_cost_and_given_widths_count_once():
    table = DropoutTable.from_widths(NETWORK, [(4, 8, 5), (1, 1, 5), (4, 8, 5)], progress=[0.3, 0.1, 0.4])
    assert [(entry.macs, entry.progress) for entry in table.entries] == [(31, 0.1), (225, 0.3)]


def test_costs_are_fractions_of_the_full_network_on_the_table_or_not():
    table = DropoutTable.uniform(NETWORK, [0.5, 0.75])
    assert table.costs().tolist() == [48 / 225, 99 / 225]
    measured = table.with_seconds("cpu", [0.2, 0.3], full_seconds=0.4)
    assert measured.costs("seconds:cpu").tolist() == [0.2 / 0.4, 0.3 / 0.4]
    assert measured.costs().tolist() == table.costs().tolist()
    with pytest.raises(InputError, match=r"no seconds of 'gpu' \(devices measured: cpu\)"):
        measured.costs("seconds:gpu")
    with pytest.raises(InputError, match="unknown unit of cost 'flops'"):
        measured.costs("flops")


def test_the_full_network_costs_1_in_any_unit():
    assert DropoutTable.full(NETWORK).costs("seconds:cpu").tolist() == [1.0]
    assert searched_table().with_seconds("cpu", [0.1, 0.3, 0.4], full_seconds=0.4).costs("seconds:cpu")[-1] == 1.0
    with pytest.raises(InputError, match="no seconds of 'cpu'"):
        searched_table().costs("seconds:cpu")


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        ([0.1, 0.2, 0.4], [31, 99, 225]),
        ([0.2, 0.2, 0.4], [99, 225]),  # as fast and better
        ([0.1, 0.5, 0.4], [31, 225]),  # slower than the full network
        ([0.5, 0.6, 0.4], [225]),
    ],
)
def test_an_entry_that_a_better_one_matches_in_seconds_is_not_worth_choosing(seconds, kept):
    table = searched_table().with_seconds("cpu", seconds, full_seconds=0.4)
    assert [entry.macs for entry in table.undominated("seconds:cpu").entries] == kept
    assert table.undominated() == table


def test_without_the_full_network_an_entry_slower_than_it_is_dropped_all_the_same():
    table = DropoutTable.uniform(NETWORK, [0.5, 0.75])
    assert [
        entry.macs for entry in table.with_seconds("cpu", [0.3, 0.5], full_seconds=0.4).undominated("seconds:cpu").entries
    ] == [48]
    with pytest.raises(InputError, match=r"every entry .* slower than the full network; add the full network"):
        table.with_seconds("cpu", [0.5, 0.6], full_seconds=0.4).undominated("seconds:cpu")


def test_a_table_may_be_ordered_by_the_seconds_of_a_device(tmp_path):
    """The entry of fewest MACs is slow here: it is worth choosing by MACs, and by seconds it is not the cheapest."""
    table = searched_table()
    quick, slow = (dataclasses.replace(table.entries[i], seconds={"cpu": seconds}) for i, seconds in ((0, 0.2), (1, 0.1)))
    turned = (dataclasses.replace(slow, progress=0.1), dataclasses.replace(quick, progress=0.2), table.entries[2])
    by_seconds = dataclasses.replace(table, entries=turned, full_seconds={"cpu": 0.4}, unit="seconds:cpu")
    assert by_seconds.costs(by_seconds.unit).tolist() == [0.25, 0.5, 1.0]
    assert by_seconds.undominated("seconds:cpu") is not None and "seconds:cpu" in str(by_seconds)
    # By MACs the better of the two is the cheaper one as well; so does a device choose that counts MACs.
    assert [entry.macs for entry in by_seconds.undominated().entries] == [31, 225]
    assert [by_seconds.select(budget).macs for budget in (20, 31, 99, 225)] == [31, 31, 31, 225]
    assert [by_seconds.select_share(share, "seconds:cpu").macs for share in (0.1, 0.3, 0.6, 1.0)] == [99, 99, 31, 225]
    assert [entry.macs for entry in by_seconds.with_cut_batches(1).entries] == [31, 225]
    by_seconds.save(tmp_path / "table.json")
    assert DropoutTable.load(tmp_path / "table.json") == by_seconds
    with pytest.raises(InputError, match=r"entries\[1\] costs 0.25 .* in seconds:cpu, the entry before it 0.5"):
        dataclasses.replace(by_seconds, entries=(quick, dataclasses.replace(slow, progress=0.3)))
    with pytest.raises(InputError, match="no seconds of 'gpu'"):
        dataclasses.replace(by_seconds, unit="seconds:gpu")


@pytest.mark.parametrize(("share", "macs"), [(2, 225), (1, 225), (0.95, 99), (0.75, 99), (0.7, 31), (0.25, 31), (0.1, 31)])
def test_selection_by_seconds_takes_what_the_seconds_say(share, macs):
    table = searched_table().with_seconds("cpu", [1.0, 3.0, 4.0], full_seconds=4.0)
    assert table.select_share(share, "seconds:cpu").macs == macs


def test_selection_by_seconds_skips_a_slow_entry_and_falls_back_to_the_fastest():
    table = searched_table().with_seconds("cpu", [0.3, 0.1, 0.4], full_seconds=0.4)
    assert [table.select_share(share, "seconds:cpu").macs for share in (1.0, 0.8, 0.1)] == [225, 99, 99]
    assert [table.select_share(share).macs for share in (1.0, 99 / 225, 0.1)] == [225, 99, 31]
    with pytest.raises(InputError, match="NaN"):
        table.select_share(float("nan"))


def test_columns_of_cost_survive_a_file_and_leave_each_other_alone(tmp_path):
    table = searched_table().with_seconds("a", [1, 2, 3], full_seconds=3).with_seconds("b", [5, 4, 3], full_seconds=3)
    table = table.with_flops([10, 20, 30]).with_seconds("a", [2, 3, 4], full_seconds=4)
    table.save(tmp_path / "table.json")
    read = DropoutTable.load(tmp_path / "table.json")
    assert read == table
    assert [entry.seconds for entry in read.entries] == [{"a": 2, "b": 5}, {"a": 3, "b": 4}, {"a": 4, "b": 3}]
    assert [entry.flops for entry in read.entries] == [10, 20, 30] and read.full_seconds == {"a": 4, "b": 3}
    with pytest.raises(InputError, match="2 measured seconds for 3 entries"):
        table.with_seconds("a", [1, 2], full_seconds=3)
    with pytest.raises(InputError, match="2 counts of flops for 3 entries"):
        table.with_flops([1, 2])
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"entries\[1\]: seconds, flops and memory have to be finite and above 0"):
            table.with_flops([1, wrong, 3])
        with pytest.raises(InputError, match="above 0"):
            table.with_seconds("a", [1, 2, 3], full_seconds=wrong)


def test_dropout_rates_are_what_is_missing_from_the_full_network():
    assert searched_table().dropout_rates().tolist() == [[0.75, 0.875, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("budget", "macs"), [(225, 225), (224.9, 99), (99, 99), (98, 31), (31, 31), (5, 31), (-1, 31), (1e9, 225)]
)
def test_the_dearest_entry_that_fits_is_selected_and_the_cheapest_if_none_does(budget, macs):
    assert searched_table().select(budget).macs == macs


@hypothesis.given(st.floats(-10, 300))
def test_selection_takes_the_most_progress_that_fits(budget):
    table = searched_table()
    fitting = [entry for entry in table.entries if entry.macs <= budget] or [table.entries[0]]
    assert table.select(budget) == max(fitting, key=lambda entry: entry.progress)
    assert table.entries[table.select_index(budget)] == table.select(budget)


def test_a_budget_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="NaN"):
        searched_table().select(float("nan"))


def test_a_table_belongs_to_the_network_that_it_was_made_for():
    table = searched_table()
    assert table.checked_for(NETWORK) is table
    with pytest.raises(InputError, match="made for another network"):
        table.checked_for(Chain((4, 8, 6)))
    with pytest.raises(InputError, match="made for another network"):
        dataclasses.replace(table, network="0" * 12).checked_for(NETWORK)
    cheaper = dataclasses.replace(table.entries[1], macs=98)
    with pytest.raises(InputError, match=r"entries\[1\].macs is 98, the network counts 99"):
        dataclasses.replace(table, entries=(table.entries[0], cheaper)).checked_for(NETWORK)


def test_a_device_that_cuts_mini_batches_leaves_out_examples_before_filters():
    cut = searched_table().with_cut_batches(20)
    widths = [entry.widths for entry in cut.entries]
    assert widths == [(1, 1, 5), (2, 4, 5), *[(4, 8, 5)] * 6]
    sizes = [1, 1, 1, 2, 4, 5, 10, 20]
    assert [round(20 * entry.batch_share) for entry in cut.entries] == sizes
    np.testing.assert_allclose(cut.costs() * 225 * 20, np.array([31, 99, *[225] * 6]) * sizes)
    assert cut.select(225 * 0.3).batch_share == 0.25 and cut.select(31 / 20).widths == (1, 1, 5)
    assert all(entry.progress is None for entry in cut.entries)  # what whole mini-batches gained says nothing of parts
    with pytest.raises(InputError, match="has no seconds of 'cpu'"):  # nor do the full network's seconds
        cut.costs("seconds:cpu")
    with pytest.raises(InputError, match="have to increase"):
        dataclasses.replace(cut, entries=cut.entries[::-1])


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_older_tables_are_read_and_their_cost_is_counted_anew(tmp_path, schema):
    """They say what the forward pass takes (1, 2), and nothing of parts of mini-batches (1), frozen layers (1, 2), units."""
    path = tmp_path / "table.json"
    searched_table().save(path)
    content = json.loads(path.read_text())
    for name in ("kind", "schema", "sha256", "unit", *(["estimated"] if schema < 3 else [])):
        del content[name]
    for entry in content["entries"]:
        since_3 = ("depth", "step_factor", "memory") if schema < 3 else ()
        for name in (*since_3, *(["batch_share"] if schema == 1 else [])):
            del entry[name]
    write_document(path, "distreal_jax dropout table", schema, content)
    table = DropoutTable.load(path)
    passes = 3 if schema < 3 else 1
    assert table.estimated == (schema < 3) and [entry.macs for entry in table.entries] == [passes * n for n in (31, 99, 225)]
    assert table.costs().tolist() == searched_table().costs().tolist()
    assert table.checked_for(NETWORK) == searched_table()


def test_an_older_table_loses_an_entry_that_costs_no_less_than_a_better_one(tmp_path, monkeypatch):
    """Counted exactly, the order of two entries of nearly equal cost may turn round."""
    older = dataclasses.replace(
        searched_table(),
        entries=tuple(dataclasses.replace(entry, macs=3 * entry.macs) for entry in searched_table().entries),
        full_macs=3 * 225,
        estimated=True,
    )
    exact = {(1, 1, 5): 120, (2, 4, 5): 99, (4, 8, 5): 225}
    monkeypatch.setattr(Chain, "training_macs", lambda self, widths=None, depth=0: exact[widths or self.filters])
    monkeypatch.setattr(Chain, "macs", lambda self, widths: {(1, 1, 5): 31, (2, 4, 5): 99, (4, 8, 5): 225}[widths])
    assert [entry.widths for entry in older.checked_for(NETWORK).entries] == [(2, 4, 5), (4, 8, 5)]


def test_entries_may_freeze_layers_leave_out_examples_and_take_other_steps(tmp_path):
    chosen = [
        Configuration((4, 8, 5), 0.5, 1, 2.0),  # 64 + 120 + 5 for half of the examples
        Configuration((4, 8, 5), depth=2, step_factor=0.5),  # 120 + 5
        Configuration((2, 4, 5), depth=3),  # 5
    ]
    table = DropoutTable.from_configurations(NETWORK, chosen)
    assert [entry.configuration for entry in table.entries] == [chosen[2], chosen[0], chosen[1]]
    assert [entry.work for entry in table.entries] == [5, 94.5, 125] and table.full_macs == 225
    table.save(tmp_path / "table.json")
    assert DropoutTable.load(tmp_path / "table.json") == table
    assert table.checked_for(NETWORK) is table and not table.has_full
    arrays = table.configurations
    assert arrays.depths.tolist() == [3, 1, 2] and arrays.step_factors.tolist() == [1, 2, 0.5]
    assert arrays.examples(20).tolist() == [20, 10, 20]
    assert "depth" in str(table) and "step" in str(table) and "depth" not in str(searched_table())


@pytest.mark.parametrize("batch_size", [1, 7, 8, 20])
def test_shares_of_examples_become_those_of_divisors_and_costs_follow(batch_size):
    chosen = [Configuration((4, 8, 5), share) for share in (0.1, 0.2, 0.5, 1.0)]
    table = DropoutTable.from_configurations(NETWORK, chosen, progress=[1, 2, 3, 4])
    fitted = table.for_batches(batch_size)
    examples = [entry.batch_share * batch_size for entry in fitted.entries]
    expected = {1: [1], 7: [1, 7], 8: [1, 2, 4, 8], 20: [2, 4, 10, 20]}[batch_size]
    np.testing.assert_allclose(examples, expected)
    assert fitted.costs().tolist() == pytest.approx([count / batch_size for count in expected])
    # Of entries that come to the same share the better one stays.
    assert [entry.progress for entry in fitted.entries] == {1: [4], 7: [2, 4], 8: [1, 2, 3, 4], 20: [1, 2, 3, 4]}[batch_size]
    assert fitted.for_batches(batch_size) == fitted


def test_the_frozen_table_has_one_entry_for_each_cost():
    assert [entry.depth for entry in DropoutTable.frozen(NETWORK).entries] == [3, 2, 1, 0]
    assert DropoutTable.frozen(NETWORK).has_full


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 4}, r"depth is 4, and the network has 4 layers: nothing would be trained; give at most 3"),
        ({"depth": -1}, r"depth is -1, expected a whole number"),
        ({"step_factor": 0.0}, r"step_factor is 0.0, expected a factor on the step size, above 0"),
        ({"step_factor": float("nan")}, r"step_factor is nan"),
        ({"step_factor": float("inf")}, r"step_factor is inf"),
        ({"batch_share": 0.0}, r"batch_share is 0.0"),
        ({"widths": (4, 8)}, r"widths has 2 widths for 3"),
    ],
)
def test_configurations_that_can_t_be_trained_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        DropoutTable.from_configurations(NETWORK, [dataclasses.replace(Configuration((4, 8, 5)), **wrong)])


def test_a_table_that_freezes_more_layers_than_the_network_has_is_refused_where_it_is_used():
    table = searched_table()
    deep = dataclasses.replace(table, entries=(dataclasses.replace(table.entries[0], depth=4), *table.entries[1:]))
    with pytest.raises(InputError, match=r"entries\[0\].depth is 4, and the network has 4 layers"):
        deep.checked_for(NETWORK)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw) -> DropoutTable:
    vectors = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 5))
    widths = draw(st.lists(vectors, min_size=1, unique_by=NETWORK.macs))
    progress = sorted(draw(st.sets(FLOATS, min_size=len(widths), max_size=len(widths))))
    # -0.0 and 0.0 are one member of a set, so the order is strict
    share = draw(st.floats(1e-9, 1))
    stderr, flops = st.none() | st.floats(0, 1e300), st.none() | st.floats(1e-300, 1e300)
    entries = [
        TableEntry(
            row,
            NETWORK.macs(row),
            gain,
            draw(stderr),
            draw(flops),
            batch_share=share,
            depth=draw(st.integers(0, 9)),
            step_factor=draw(st.floats(1e-9, 1000)),
            memory=draw(flops),
        )
        for row, gain in zip(sorted(widths, key=NETWORK.macs), progress, strict=True)
    ]
    values = FLOATS | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
    provenance = draw(st.dictionaries(st.text(max_size=5), values))
    seconds = st.dictionaries(st.text(max_size=5), st.floats(1e-300, 1e300), max_size=2)
    return dataclasses.replace(
        searched_table(),
        entries=tuple(dataclasses.replace(entry, seconds=draw(seconds)) for entry in entries),
        provenance=provenance,
        full_seconds=draw(seconds),
    )


@hypothesis.given(table=tables())
@hypothesis.settings(max_examples=50)
def test_a_table_reads_back_exactly(tmp_path_factory, table):
    path = tmp_path_factory.getbasetemp() / "table.json"
    table.save(path)
    assert DropoutTable.load(path) == table
    assert repr(DropoutTable.load(str(path))) == repr(table)


@st.composite
def damages(draw) -> list[tuple[str, float, bytes]]:
    change = st.tuples(
        st.sampled_from(["replace", "insert", "delete", "cut"]), st.floats(0, 1), st.binary(min_size=1, max_size=4)
    )
    return draw(st.lists(change, min_size=1, max_size=3))


@hypothesis.given(damages())
@hypothesis.settings(max_examples=300)
def test_a_damaged_file_is_refused_in_one_line_or_says_the_same(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    searched_table().save(path)
    content = path.read_bytes()
    for kind, place, patch in changes:
        at = int(place * len(content))
        rest = {"insert": content[at:], "cut": b""}.get(kind, content[at + len(patch) :])
        content = content[:at] + (patch if kind in ("replace", "insert") else b"") + rest
    path.write_bytes(content)
    try:
        table = DropoutTable.load(path)
    except InputError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
    else:
        assert table == searched_table()


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "table.json"
    searched_table().save(path)
    content = path.read_bytes()
    for length in range(len(content.rstrip())):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="damaged or truncated"):
            DropoutTable.load(path)


def _first_entry(**fields):
    return lambda document: document["entries"][0].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda document: document.update(schema=99), "made by a newer version .*upgrade"),
        (lambda document: document.update(schema="1"), "schema is '1', expected a whole number"),
        (lambda document: document.update(kind="recipe"), "is a 'recipe', expected"),
        (lambda document: document.pop("network"), "field network is missing"),
        (lambda document: document.update(network=3), "network is 3, expected a text"),
        (lambda document: document.update(entries=[]), "at least one entry"),
        (lambda document: document.update(entries={}), "entries is {}, expected a list"),
        (lambda document: document.update(entries=[3]), r"entries\[0\] is 3, expected a JSON object"),
        (lambda document: document.update(comment="mine"), "comment is 'mine', expected no field"),
        (lambda document: document["entries"][1].update(note=1), r"entries\[1\].note is 1, expected no field"),
        (lambda document: document["groups"][0].update(filters=0), r"groups\[0\].filters is 0, expected a whole number"),
        (lambda document: document["groups"].pop(), r"entries\[0\].widths has 3 widths for 2"),
        (lambda document: document.update(full_macs=True), "full_macs is True, expected a whole number"),
        (lambda document: document.update(full_macs=100), r"entries\[2\].macs is 225, expected 1 to"),
        (lambda document: document.update(full_seconds={"cpu": -1}), "full_seconds is .*above 0"),
        (lambda document: document.update(full_seconds={"cpu": "1"}), "full_seconds.cpu is '1', expected a finite number"),
        (lambda document: document.update(provenance=[]), "provenance is .*expected a JSON object"),
        (
            lambda document: document["entries"].reverse(),
            r"entries\[1\] costs 0.44 of the full network in MACs, the entry before it 1; MACs have to increase",
        ),
        (_first_entry(widths=[1, 9, 5]), r"entries\[0\].widths keeps 9 filters of 'b', expected 1 to 8"),
        (_first_entry(widths=[0, 1, 5]), r"entries\[0\].widths is .*at least 1"),
        (_first_entry(widths=[1.0, 1, 5]), r"entries\[0\].widths is .*whole"),
        (_first_entry(widths=[1, 1]), r"entries\[0\].widths has 2 widths for 3"),
        (_first_entry(macs=0), r"entries\[0\].macs is 0"),
        (_first_entry(macs=10**400), r"entries\[0\].macs is 10000"),
        (_first_entry(progress="much"), r"entries\[0\].progress is 'much', expected a finite number"),
        (_first_entry(progress=10**400), r"entries\[0\].progress is 10000.*expected a finite number"),
        (_first_entry(progress=float("nan")), "NaN is no JSON number"),
        (_first_entry(progress=float("inf")), "Infinity is no JSON number"),
        (_first_entry(progress=0.25), r"entries\[1\].progress is 0.2, dominated by the 0.25 of the cheaper entries\[0\]"),
        (_first_entry(progress_stderr=-0.1), r"entries\[0\].progress_stderr is -0.1"),
        (_first_entry(flops=0), r"entries\[0\]: seconds, flops and memory"),
        (_first_entry(flops="many"), r"entries\[0\].flops is 'many', expected a finite number"),
        (_first_entry(seconds={"cpu": 0}), r"entries\[0\]: seconds, flops and memory"),
        (_first_entry(seconds={"cpu": None}), r"entries\[0\].seconds.cpu is None, expected a finite number"),
        (_first_entry(seconds=[0.1]), r"entries\[0\].seconds is .*expected a JSON object"),
        (_first_entry(batch_share=0), r"entries\[0\].batch_share is 0, expected a number above 0 and at most 1"),
        (_first_entry(batch_share=1.5), r"entries\[0\].batch_share is 1.5"),
        (_first_entry(batch_share=None), r"entries\[0\].batch_share is None"),
        (lambda document: document["entries"][0].pop("flops"), r"field entries\[0\].flops is missing"),
        (_first_entry(progress=0.15), "changed after it was written"),
        (lambda document: document["provenance"].update(seed=1), "changed after it was written"),
    ],
)
def test_a_file_edited_into_nonsense_is_refused_by_file_and_field(tmp_path, edit, message):
    path = tmp_path / "table.json"
    searched_table().save(path)
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as raised:
        DropoutTable.load(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"1e999", b"9" * 5000, b"null", b'{"kind": "\\ud800"}']
)
def test_files_that_are_no_table_at_all_are_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        DropoutTable.load(path)


def test_paths_that_lead_nowhere_are_refused(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "missing.json" / "deeper.json"):
        with pytest.raises(InputError, match=re.escape(f"can't read {path}")):
            DropoutTable.load(path)
    with pytest.raises(InputError, match="can't write"):
        searched_table().save(tmp_path / "missing" / "table.json")


def test_a_write_that_fails_leaves_the_table_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    searched_table().save(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr(os, "replace", fail)
        DropoutTable.full(NETWORK).save(path)
    assert DropoutTable.load(path) == searched_table()
    assert list(tmp_path.iterdir()) == [path]


def test_bare_names_are_tables_of_the_package_and_unknown_ones_list_them(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_shipped_tables", lambda: tmp_path)
    with pytest.raises(InputError, match=r"no table named 'leaf_cnn' comes with the package \(there are: none\)"):
        DropoutTable.load("leaf_cnn")
    searched_table().save(tmp_path / "leaf_cnn.json")
    DropoutTable.full(NETWORK).save(tmp_path / "chain.json")
    assert DropoutTable.load("leaf_cnn") == searched_table()
    with pytest.raises(InputError, match=r"no table named 'lenet' .*\(there are: chain, leaf_cnn\)"):
        DropoutTable.load("lenet")


def test_tables_of_the_package_are_found_where_it_is_installed():
    assert Path(str(table_file._shipped_tables())) == Path(table_file.__file__).parents[1] / "tables"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": {"array": np.zeros(2)}}, "provenance can't be written"),
        ({"provenance": {"loss": float("nan")}}, "provenance can't be written"),
        ({"group_names": ("a", "b")}, "2 group names for 3"),
        ({"full_macs": 0}, "at least 1"),
    ],
)
def test_no_table_comes_into_being_that_could_not_be_read_back(changes, message):
    with pytest.raises(InputError, match=message):
        searched_table(**changes)


def test_dominated_widths_and_widths_of_equal_cost_make_no_table():
    with pytest.raises(InputError, match="dominated"):
        DropoutTable.from_widths(NETWORK, [(1, 1, 5), (2, 4, 5)], progress=[0.2, 0.2])
    vectors = itertools.product(range(1, 5), range(1, 9), range(1, 6))
    equal = next(pair for pair in itertools.combinations(vectors, 2) if NETWORK.macs(pair[0]) == NETWORK.macs(pair[1]))
    with pytest.raises(InputError, match="have to increase"):
        DropoutTable.from_widths(NETWORK, equal)
    with pytest.raises(InputError, match="2 values of progress for 1 entries"):
        DropoutTable.from_widths(NETWORK, [(1, 1, 5)], progress=[0.2, 0.2])
