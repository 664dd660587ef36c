"""And with ResNet-20 at three times the load?

    python -m experiments.configs.map_of_resnet20_mild --out runs/map_of_resnet20_mild

As map_of_resnet20, but at a mean availability of 0.3, with trials at that load; masked execution, as small federations of
deep networks spend their time compiling otherwise; 4 seeds.

Expected: in final accuracy 0.975, not told apart from partial work (0.983), SALF (0.979) and adaptive batch (0.978); over
time ahead of adaptive batch by 0.017; 92 min beside another job, on 2 CPU cores.
"""

import dataclasses

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from experiments.configs.map_of_resnet20 import CONFIG as HARSH

SETTING = "Digits, ResNet-20: 30 % on average"
CONFIG = dataclasses.replace(HARSH, means="0.3", execution="masked")

if __name__ == "__main__":
    run_command(main, CONFIG)
