"""Claims about the benchmark's suite: ratios are of the same turn, tables say what was missed, and nothing runs twice."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from distreal_jax.commands.account import AROUND, ELEMENTWISE, SUMS, part_of
from distreal_jax.commands.suite import MARKS, PIECES, pieces_of, run_suite, with_faster_layouts
from distreal_jax.commands.suite_tables import ratio, tables
from distreal_jax.commands.workloads import OurRounds, RoundChoice, by_turns
from distreal_jax.errors import InputError

SOURCE = {"cpu_count": 2, "cpu": "a CPU", "date": "2026-11-26T04:00:00", "versions": {"jax": "0.10.2"}}


def of_turns(*seconds):
    return {
        "turns": len(seconds),
        "provenance": SOURCE,
        "seconds": {"plan": list(seconds), "full": [2 * s for s in seconds]},
    }


def test_a_machine_that_slows_down_for_a_turn_moves_no_ratio():
    steady, shaken = (ratio(of_turns(*seconds), "plan", "full") for seconds in ((1, 1, 1, 1), (1, 3, 1, 2)))
    assert steady == shaken == (2.0, "2 [2, 2]")


def test_two_turns_have_a_ratio_and_no_interval():
    assert ratio(of_turns(1, 3), "plan", "full") == (2.0, "2")


def test_every_other_turn_is_in_reverse_order():
    order = []
    timed = {name: lambda turn, name=name: order.append((turn, name)) or float(turn) for name in "ab"}
    assert by_turns(timed, 2) == {"a": [0.0, 1.0], "b": [0.0, 1.0]}
    assert order == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]


def test_the_macs_of_a_plan_are_those_of_the_rounds_that_are_timed():
    rounds = OurRounds(RoundChoice(workload="B", plan=True, clients=2, rounds=3))
    ran = []
    run = lambda server, images, work, index: ran.append((work, index)) or (server, None)  # noqa: E731
    rounds.program = SimpleNamespace(run=run)
    by_turns({"plan": rounds.timed}, 3)
    entries = np.concatenate([work.entries[work.entries >= 0] for work, _ in ran])
    assert rounds.macs_per_step() == 20 * rounds.table.configurations.macs(rounds.network)[entries].mean()
    assert [index for _, index in ran] == [2, 3, 4]


def test_of_two_layouts_the_faster_counts():
    seconds = {"x": [2.0, 2.0, 0.5], "x_channels_last": [1.0, 1.0, 1.0], "y": [1.0], "y_channels_last": [2.0], "ours": [3.0]}
    kept, chosen = with_faster_layouts(seconds)
    assert kept == {"x": [1.0, 1.0, 1.0], "y": [1.0], "ours": [3.0]} and chosen == ["x_channels_last"]


def test_a_target_that_is_missed_is_said():
    piece = of_turns(1, 1, 1) | {"macs": {"plan": 0.4}}
    missed = piece | {"seconds": {"plan": [1, 1, 1], "full": [1.5, 1.5, 1.5]}}
    said = tables({"plan-A": piece, "plan-B": missed})
    assert "| A | 0.400 | 1 [1, 1] | 2 [2, 2] | – | 0.5 [0.5, 0.5] | 0.49 |" in said
    assert "| A: a plan over our full network | 1.7 | 2 | reached |" in said
    assert "| B: a plan over our full network | 1.7 | 1.5 | missed |" in said
    assert "2 CPUs of a CPU; jax 0.10.2; 2026-11-26." in said


def test_the_tables_of_all_pieces_have_as_many_cells_in_each_row():
    widths = {"seconds": {f"{who}_{keep}": [1, 2, 3] for who in ("ours", "pytorch") for keep in (1.0, 0.5, 0.25)}}
    widths |= {"macs": {"1.0": 1.0, "0.5": 0.25, "0.25": 0.07}}
    parts = {"3x3 on 8x8, forwards": 2.0, "3x3 on 8x8, to the kernel": 3.0, SUMS: 1.0, ELEMENTWISE: 1.0, AROUND: 0.0}
    account = {"widths": {keep: {"step_ms": 8.0, "profiled_ms": 7.0, "parts_ms": parts} for keep in ("1.0", "0.5", "0.25")}}
    pieces = {"widths-A": widths, "compile-B": {"first": 20.0, "from_disk": 2.0, "programs": 9}, "account-resnet20": account}
    said = tables({name: piece | {"turns": 3, "provenance": SOURCE} for name, piece in pieces.items()})
    blocks = [block.splitlines() for block in said.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
    assert "| between operations | 1.0 | 1.0 | 1.0 |" in said and AROUND not in said
    assert "| B: first round / from the disk, s (at most) | 30 / 3 | 20 / 2 | reached |" in said


def test_pieces_on_the_disk_are_not_run_again_and_the_report_keeps_its_words(tmp_path, capsys):
    for name in PIECES:
        (tmp_path / f"{name}.json").write_text(json.dumps({}))
    (tmp_path / "plan-A.json").write_text(json.dumps(of_turns(1, 1, 1) | {"macs": {"plan": 0.5}}))
    report = tmp_path / "report.md"
    report.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    run_suite(("plan-A",), 3, tmp_path, report, dry_run=True)
    assert "0 pieces to run" in capsys.readouterr().out and "old" in report.read_text()
    for name in PIECES:
        if name != "plan-A":
            (tmp_path / f"{name}.json").unlink()
    run_suite(("plan-A",), 3, tmp_path, report, dry_run=False)
    text = report.read_text()
    assert text.startswith(f"before\n{MARKS[0]}\n") and text.endswith(f"{MARKS[1]}\nafter\n") and "old" not in text
    assert "| A: a plan over our full network | 1.7 | 2 | reached |" in text


def test_pieces_of_another_machine_are_not_put_into_one_table_with_these(tmp_path):
    piece = of_turns(1, 1, 1) | {"macs": {"plan": 0.5}, "provenance": SOURCE | {"accelerators": ["NVIDIA H200"]}}
    (tmp_path / "plan-A.json").write_text(json.dumps(piece))
    report = tmp_path / "report.md"
    report.write_text(f"{MARKS[0]}\nold\n{MARKS[1]}\n")
    with pytest.raises(
        InputError, match=r"plan-A\.json was measured on NVIDIA H200, and this is a CPU; choose another --results"
    ):
        run_suite(("plan-B",), 3, tmp_path, report, dry_run=True)
    assert "old" in report.read_text()


def test_the_suite_says_what_it_does_not_know(tmp_path):
    with pytest.raises(InputError, match="no piece 'widths-C'; choose from: widths-A"):
        run_suite(("widths-C",), 3, tmp_path, tmp_path / "none.md", dry_run=True)
    with pytest.raises(InputError, match=r"none\.md is no file with the lines"):
        run_suite((), 3, tmp_path, tmp_path / "none.md", dry_run=True)


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("jit(steps)/while/body/jvp(convolution:3x3:8x8)/conv_general_dilated", "3x3 on 8x8, forwards"),
        ("jit(steps)/while/body/transpose(jvp(convolution:1x1:8x8))/to_kernel/dot_general", "1x1 on 8x8, to the kernel"),
        ("jit(steps)/while/body/transpose(jvp())/reduce_sum", SUMS),
        ("jit(steps)/while/body/jvp()/jit(relu)/max", ELEMENTWISE),
        ("jit(steps)/while/body/jit(shuffle)/sort", AROUND),
    ],
)
def test_operations_are_told_apart_by_the_code_that_they_are_of(code, part):
    assert part_of(code) == part


def test_a_small_round_compiles_for_a_tpu_that_is_not_at_hand():
    pytest.importorskip("libtpu", reason="the compiler for TPUs is an extra: tpu-aot")
    from distreal_jax.commands.ahead_of_time import devices_of, needs

    choice = RoundChoice(workload="B", keep=0.1, clients=4, chunk=2, block=2, rounds=1, convolution="library")
    found = needs(choice, devices_of("v5e:2x2")[0])
    assert found["chunk"] == found["block"] == 2 and found["form"] == "library"
    assert found["temporaries_mib"] > 0 and np.isfinite(found["gflop_per_client_step"])


def test_an_accelerator_has_forms_and_no_account_and_no_targets_of_a_cpu():
    assert "account-resnet20" in pieces_of("cpu") and "forms-A" not in pieces_of("cpu")
    assert "account-resnet20" not in pieces_of("gpu") and "forms-A" in pieces_of("gpu")
    forms = {"turns": 3, "seconds": {"patches_10_0.5": [0.5, 0.5, 0.5]}}
    plan = of_turns(1, 1, 1) | {"macs": {"plan": 0.4}}
    plan["seconds"]["masked"] = [4, 4, 4]
    on_gpu = SOURCE | {"accelerators": ["NVIDIA H100 80GB HBM3"]}
    said = tables({name: piece | {"provenance": on_gpu} for name, piece in {"forms-A": forms, "plan-A": plan}.items()})
    assert "1 NVIDIA H100 80GB HBM3, 2 CPUs of a CPU;" in said and "target" not in said
    assert "| A | patches | 10 | half | 2 [2, 2] |" in said
    assert "| A | 0.400 | 1 [1, 1] | 2 [2, 2] | 4 [4, 4] | 0.5 [0.5, 0.5] | 0.49 |" in said
