"""The pictures of devices: one that rides its load, and the seconds that training steps take on it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distreal_jax.record.pictures.look import GREY, check_lengths, in_percent, picture


def availability_picture(
    path: Path,
    *,
    times: Sequence[float],
    availability: Sequence[float],
    step_starts: Sequence[float],
    step_ends: Sequence[float],
    step_costs: Sequence[float],
    end: float,
    deadlines: Sequence[float] = (),
    title: str = "One device riding its load",
    x_label: str = "simulated time (s)",
) -> None:
    """One device: what is available, and below it what each mini-batch costs and how long it takes.

    Args:
      path: The PNG file.
      times: When availability changes, first the start, [changes].
      availability: From then on, a fraction of the full speed, [changes].
      step_starts: Start of each mini-batch, [steps].
      step_ends: End of each mini-batch, [steps].
      step_costs: MACs of the chosen entry as a fraction of the full network's, [steps].
      end: Where the picture ends.
      deadlines: Ends of rounds, drawn as vertical lines.
      title: Of the picture.
      x_label: What time is counted in.
    """
    check_lengths("load", times, availability)
    check_lengths("device", step_starts, step_ends, step_costs)
    with picture(path, 8.4, 4.6) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        steps_x, steps_y = [*times, end], [*availability, availability[-1]]
        above.step(steps_x, steps_y, where="post", color="#0072B2")
        above.fill_between(steps_x, steps_y, step="post", color="#0072B2", alpha=0.15, linewidth=0)
        above.set(title=title, ylabel="available speed", ylim=(0, 1.05), xlim=(times[0], end))
        starts = np.asarray(step_starts, dtype=np.float64)
        widths = np.asarray(step_ends, dtype=np.float64) - starts
        below.bar(starts, step_costs, widths, align="edge", color="#D55E00", edgecolor="white", linewidth=0.6)
        below.set(ylabel="MACs of the\nchosen entry", ylim=(0, 1.05), xlabel=f"{x_label}; a bar is a mini-batch")
        for axes in (above, below):
            in_percent(axes, "y")
            axes.grid(True, axis="y")
            for index, deadline in enumerate(deadlines):
                axes.axvline(deadline, color="black", linewidth=1, linestyle="--", label="" if index else "end of a round")
        if len(deadlines):
            above.legend(loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)


def seconds_picture(
    path: Path,
    macs: Sequence[Sequence[float]],
    seconds: Sequence[Sequence[float]],
    names: Sequence[str],
    title: str = "Time of a training step, measured",
) -> None:
    """Measured seconds against MACs, beside what they would be in proportion.

    Args:
      path: The PNG file.
      macs: Of the entries of each series, as fractions of the full network's, [series][entries].
      seconds: Measured for them, [series][entries].
      names: Of the series, such as executions, networks or devices, [series].
      title: Of the picture.
    """
    check_lengths("measurement", macs, seconds, names)
    with picture(path, 7.2, 4.4) as figure:
        axes = figure.subplots()
        styles = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#332288", "P"))
        for index, name in enumerate(names):
            check_lengths(name, macs[index], seconds[index])
            order = np.argsort(macs[index])
            x, y = np.asarray(macs[index])[order], 1e3 * np.asarray(seconds[index])[order]
            colour, marker = styles[index % len(styles)]
            axes.plot(x, y, color=colour, marker=marker, label=name)
            proportional = "in proportion to MACs" if index == len(macs) - 1 else None
            axes.plot([0, x[-1]], [0, y[-1]], color=GREY, linewidth=1, linestyle=":", label=proportional, zorder=1)
        axes.set(
            title=title,
            xlabel="MACs of the step, relative to the full network",
            ylabel="milliseconds a step",
            xlim=(0, None),
            ylim=(0, None),
        )
        in_percent(axes, "x")
        axes.grid(True)
        axes.legend(loc="lower right")
