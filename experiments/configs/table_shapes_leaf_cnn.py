"""Which shape of table learns best in a federation of the LEAF CNN, and where is the searched one among them?

    python -m experiments.configs.table_shapes_leaf_cnn --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, harsh load; tables of twelve entries of the same costs: one rate for all layers, tilts of 0.5
and 1 towards the first convolution, and the shipped table. 5 seeds.

Expected (final accuracy, 95 % over seeds): one rate 0.724 ± 0.017, a tilt of 0.5 0.723 ± 0.018, of 1 0.714 ± 0.017, the
searched table 0.716 ± 0.028: the shape hardly matters to this network. 16 min on 2 CPU cores, 2026-11-24.
"""

from distreal_jax.commands.table_shapes import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    shapes="0,0.5,1",
    tables="leaf_cnn",
    seeds="0-4",
    world=WorldSettings("fashion_mnist", model="leaf_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
