"""How fast rounds are on this machine: one JSON line for one choice of workload, width, execution and form.

The same as `distreal benchmark`; `--help` explains the options, `distreal_jax/commands/benchmark.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("benchmark")
