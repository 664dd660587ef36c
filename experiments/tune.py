"""Tune methods, each with the same number of trials, and leave a file of settings that a comparison takes.

The same as `distreal tune`; `--help` explains the options, `distreal_jax/commands/tune.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("tune")
