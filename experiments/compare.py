"""Compare methods under the same load, in pairs: same data, devices, first weights and load for each seed.

The same as `distreal compare`; `--help` explains the options, `distreal_jax/commands/compare.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("compare")
