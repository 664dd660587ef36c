"""Search a table of Pareto-optimal dropout vectors for a network.

The same as `distreal search`; `--help` explains the options, `distreal_jax/commands/search.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("search")
