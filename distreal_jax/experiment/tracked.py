"""The Weights & Biases run of a run folder: how it is called, grouped and tagged."""

from distreal_jax.experiment.command_line import OutputSettings
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.tracking import Tracker, open_tracker


def tracked(
    output: OutputSettings,
    folder: RunFolder,
    job: str,
    *,
    name: str | None = None,
    group: str | None = None,
    alone: bool = True,
) -> Tracker:
    """Opens it, where the output asks for one.

    Args:
      output: Where Weights & Biases goes.
      folder: Of the run.
      job: What kind of run it is: the method, or `search`.
      name: What the run is called; without it as the job.
      group: Runs that belong together, such as those of a comparison.
      alone: As for `open_tracker`.
    """
    return open_tracker(
        output.wandb,
        project=output.wandb_project,
        name=name or job,
        config=folder.settings,
        folder=folder.path,
        job=job,
        group=group,
        tags=tags_of(folder),
        alone=alone,
    )


def tags_of(folder: RunFolder) -> list[str]:
    """What a person looks for runs by: data set, network, partition and load of the settings."""
    world = folder.settings.get("comparison", folder.settings).get("world", {})
    return [str(world[name]) for name in ("dataset", "model", "partition", "availability") if name in world]
