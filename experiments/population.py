"""How a large population behaves: rounds of 1,000 clients from 1,000,000 devices, with their time and peak memory.

The same as `distreal population`; `--help` explains the options, `distreal_jax/commands/population.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("population")
