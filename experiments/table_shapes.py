"""Which shape of table learns best in a federation? The truth that a search is after.

The same as `distreal table_shapes`; `--help` explains the options, `distreal_jax/commands/table_shapes.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("table_shapes")
