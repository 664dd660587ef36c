"""Which tuned method is ahead under fixed budgets of an eighth, a quarter and a half of the network?

    python -m experiments.configs.trial_budgets_digits

ResNet-20 on digits, Dirichlet 0.3, three tiers for ever, as in later code of DISTREAL's group; the settings of
trial_tune_digits, a table searched for each seed, 5 seeds.

Expected: not run yet (0 of its seeds), and to be estimated by --dry-run; more than 7 min on 2 CPU cores in any case.
"""

from pathlib import Path

from distreal_jax.experiment import run_command
from distreal_jax.fleet.federation import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from experiments.compare import Options, main

CONFIG = Options(
    methods="distreal,distreal_uniform,heterofl,fjord,fedrolex,small_network,small_ensemble,partial_work,adaptive_batch,full_resources",
    seeds="0-4",
    table="runs/trial_table_digits_{seed}/table.json",
    tuned=Path("runs/trial_tune_digits/tuned.json"),
    world=WorldSettings("digits", model="resnet20", availability="tiers:0.5,0.25,0.125"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=3),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
