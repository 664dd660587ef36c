"""The map: which method is best at which mean availability and rate of change, and what dropping filters gains there.

The same as `distreal map`; `--help` explains the options, `distreal_jax/commands/map.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("map")
