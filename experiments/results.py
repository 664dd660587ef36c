"""Gathers finished configs into docs/results.md, and the main one into README.md: every number with its command and machine.

The same as `distreal results`; `--help` explains the options, `distreal_jax/commands/results.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("results")
