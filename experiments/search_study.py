"""Is the search worth it? NSGA-II against vectors that take no search, at equal numbers of evaluations.

The same as `distreal search_study`; `--help` explains the options, `distreal_jax/commands/search_study.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("search_study")
