"""Train one method on a simulated fleet.

The same as `distreal train`; `--help` explains the options, `distreal_jax/commands/train.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("train")
