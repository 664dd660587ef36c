"""The whole line in a few minutes: search a table, train seven methods under the same changing load, report.

The same as `distreal demo`; `--help` explains the options, `distreal_jax/commands/demo.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("demo")
