"""A round's programs compiled for accelerators that are not at hand: what they need, by form, chunk and block.

    pip install 'distreal_jax[tpu-aot]'
    JAX_PLATFORMS=cpu python experiments/benchmark.py --workload A --keep 0.5 --ahead-of-time v5e:2x2

The compiler of TPUs is a library that runs on any machine (`jax.experimental.topologies`). It says how much memory a program
takes beside its arguments, and counts floating-point operations and bytes; it runs nothing, so it says nothing of seconds.
"""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from distreal_jax.commands.workloads import OurRounds, RoundChoice
from distreal_jax.errors import InputError
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.fleet.programs import Here
from distreal_jax.fleet.work import group_size, units_of
from distreal_jax.step import ConvolutionForm

_FORMS: tuple[ConvolutionForm, ...] = ("library", "patches")
_CHUNKS, _BLOCKS = (4, 16, 64), (64, 256)
# What the compiler would ask the metadata server of a machine with TPUs.
_WITHOUT_A_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def devices_of(topology: str) -> list[Any]:
    """The devices of a topology of TPUs, such as v5e:2x2.

    Args:
      topology: As JAX calls it.

    Raises:
      InputError: The compiler for TPUs is not installed, or knows no such topology.
    """
    for name, value in _WITHOUT_A_TPU.items():
        os.environ.setdefault(name, value)
    try:
        return list(topologies.get_topology_desc(topology, platform="tpu").devices)
    except Exception as error:  # of several kinds, by what is missing
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"can't compile for {topology!r} ({reason}); install distreal_jax[tpu-aot], set JAX_PLATFORMS=cpu,"
            " and name a topology such as v5e:2x2"
        ) from None


def needs(choice: RoundChoice, device: Any) -> dict[str, Any]:
    """What the training program of a round needs on a device: the one with the most MACs.

    Args:
      choice: The round, with its form, chunk and block.
      device: That it is compiled for.

    Raises:
      InputError: The compiler says nothing of memory.
    """
    ours = OurRounds(choice)
    work = ours.works[0]
    programs = ours.program.programs_for(group_size(len(work.clients)))
    block = units_of(work, programs.grouping, programs.of_entries)[0][0].work
    params = tuple(jax.tree.leaves(ours.server.params))
    data = next(iter(ours.images.values()))
    here = Here(ours.server, params, data, block, ours.program.hyperparameters)
    begin = time.perf_counter()
    compiled = programs.lowered(0, here, device, (np.uint32(0), np.uint32(0))).compile()
    seconds = time.perf_counter() - begin
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    if memory is None:
        raise InputError(f"the compiler for {device.device_kind} says nothing of memory; take another topology")
    return {
        "form": choice.convolution,
        "chunk": programs.grouping.chunk,
        "block": programs.grouping.block,
        "temporaries_mib": round(memory.temp_size_in_bytes / 2**20, 1),
        "arguments_mib": round(memory.argument_size_in_bytes / 2**20, 1),
        "gflop_per_client_step": round(1e-9 * cost.get("flops", float("nan")) / programs.grouping.chunk, 4),
        "mib_per_client_step": round(cost.get("bytes accessed", float("nan")) / 2**20 / programs.grouping.chunk, 1),
        "compile_seconds": round(seconds, 1),
    }


def choices(choice: RoundChoice) -> Iterator[RoundChoice]:
    """The forms, chunks and blocks to be tried: those that are given, or all of a few.

    Args:
      choice: The round; a form, chunk or block that it leaves to the platform is tried in several values.

    Returns:
      Rounds of as many clients as it says or, if it says none, of 16 blocks.
    """
    forms = _FORMS if choice.convolution == "platform" else (choice.convolution,)
    chunks = (choice.chunk,) if choice.chunk else _CHUNKS
    blocks = (choice.block,) if choice.block else _BLOCKS
    for form, chunk, block in itertools.product(forms, chunks, blocks):
        if chunk <= block:
            clients = choice.clients or 16 * block  # so that no group of the sum is smaller than a block
            yield dataclasses.replace(choice, convolution=form, chunk=chunk, block=block, clients=clients)


def compile_ahead(choice: RoundChoice, topology: str, *, dry_run: bool = False) -> None:
    """Compiles a round's training program in each form, chunk and block; prints a JSON line for each.

    Args:
      choice: As for `choices`.
      topology: As for `devices_of`.
      dry_run: Say what would be compiled instead.

    Raises:
      InputError: As `devices_of` and `needs`.
    """
    if dry_run:
        programs = [f"{each.convolution}, chunk {each.chunk}, block {each.block}" for each in choices(choice)]
        print(f"Would be compiled for {topology}: {'; '.join(programs)}.\n{WROTE_NOTHING}")
        return
    device = devices_of(topology)[0]
    for each in choices(choice):
        line = {"workload": choice.workload, "keep": choice.keep, "device": device.device_kind, **needs(each, device)}
        print(json.dumps(line), flush=True)
