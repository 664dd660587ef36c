"""What carries DISTREAL's gain: random filters, drawn for each mini-batch, rescaled, one vector per layer, or the pace?

    python -m experiments.configs.what_carries_the_gain --data-dir ../shared/tfds

DISTREAL and variants that differ in one choice each, in the world of fashion_mnist_harsh, 5 seeds.

Expected (final accuracy, 95 % over seeds): DISTREAL 0.713 ± 0.019; dense units dropped too -0.136, first filters -0.107, not
rescaled -0.052, drawn once a round -0.019, decided once a round -0.012, rolling -0.004, one rate 0.000, paced by the
remaining time +0.013, examples left out first +0.070. 11 min on 2 CPU cores, 2026-11-23.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    methods=",".join(
        (
            "distreal",
            "distreal_uniform",
            "distreal_uniform[dense=true]",
            "distreal[filters=first]",
            "distreal[filters=rolling]",
            "distreal[drawn=round]",
            "distreal[decided=round]",
            "distreal[rescale=false]",
            "distreal[pace=remaining]",
            "distreal[batch=cut]",
        )
    ),
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
