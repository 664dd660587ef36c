"""And with ResNet-20 in measured seconds of a CPU core?

    python -m experiments.configs.map_of_resnet20_seconds --out runs/map_of_resnet20_seconds

As map_of_resnet20 at a mean availability of 0.1, but a round offers the seconds of ten mini-batches of 20 with the full
network, and every step costs what was measured on this machine. The table, trial_tune_resnet20_knobs', was searched by MACs;
devices choose by its measured seconds; masked execution, as small federations of deep networks spend their time compiling
otherwise; 4 seeds.

Expected: in final accuracy 0.964, not told apart from SALF (0.960), partial work (0.958) and adaptive batch (0.905); over
time ahead of adaptive batch by 0.213 and behind SALF by 0.050; 67 min on 2 CPU cores, which must be quiet while steps are
measured.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from experiments.configs.map_of_resnet20 import CONFIG as BY_MACS

SETTING = "Digits, ResNet-20: 10 % on average, in measured seconds"
CONFIG = dataclasses.replace(
    BY_MACS,
    means="0.1",
    execution="masked",
    seconds=Path("runs/core.json"),
    world=dataclasses.replace(BY_MACS.world, cost="seconds:core"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
