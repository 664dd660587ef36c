"""Which method learns fastest where devices have a fiftieth to a fifth of what a round of the full network takes?

    python -m experiments.configs.fashion_mnist_harsh --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, availability uniform in [0.02, 0.2] and redrawn three times a round,
all methods, 5 seeds.

Expected (final accuracy, 95 % over seeds): full resources 0.838 ± 0.008, adaptive_batch 0.798 ± 0.012, small network
0.746 ± 0.027, DISTREAL 0.713 ± 0.019, with one rate for all layers 0.713 ± 0.016, partial work 0.707 ± 0.024 (FedProx and
FedNova the same: a device does at most two mini-batches), FedRolex 0.668 ± 0.019, HeteroFL 0.611 ± 0.039, Federated Dropout
0.585 ± 0.070, FjORD 0.545 ± 0.138, stragglers dropped 0.084. 65 min on 2 CPU cores that did other work as well
(adaptive_batch, alone, 1 min), 2026-11-23.

The order of methods is withdrawn: none is tuned, HeteroFL and FjORD are scored on filters that nobody trained, and methods
with one sub-network for a round dropped dense units and discarded unfinished work at the deadline.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    targets="0.65,0.7,0.75",
    methods=",".join(METHODS),
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
