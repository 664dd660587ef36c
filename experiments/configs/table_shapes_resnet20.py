"""Which shape of table learns best in a federation of ResNet-20, and where is a searched one among them?

    python experiments/search.py --dataset digits --model resnet20 --search.population 24 --search.generations 8 \
        --progress.rounds 1 --progress.devices 1 --progress.steps 400 --progress.batch-size 8 --progress.held-out 500 \
        --progress.sizes 3 --out runs/search_resnet20_digits
    python -m experiments.configs.table_shapes_resnet20

Digits, Dirichlet 0.3, availability from a twentieth to a half; tables of twelve entries of the same costs: one rate for all
layers, filters inside blocks alone, a tilt of 0.5 towards the first layers; and the table that the first command searches. 5
seeds.

Expected (final accuracy, 95 % over seeds): one rate 0.281 ± 0.058, a tilt of 0.5 0.248 ± 0.074, inside blocks alone
0.775 ± 0.066, the searched table (table1) 0.798 ± 0.067: +0.517 [+0.407, +0.639] over one rate, +0.023 [-0.001, +0.055] over
inside blocks alone. 6 min for the search, 12 min for this, on 2 CPU cores, 2026-11-25.

All of it at a learning rate of 0.1, which decides how large the differences are: withdrawn as a statement about shapes.
"""

from distreal_jax.commands.table_shapes import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    shapes="0,inside,0.5",
    lowest=0.05,
    tables="runs/search_resnet20_digits/table.json",
    seeds="0-4",
    execution="masked",
    world=WorldSettings("digits", model="resnet20", availability="redrawn:0.05,0.5,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
