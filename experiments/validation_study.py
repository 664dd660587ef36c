"""Does a validation split order settings as the test set does?

The same as `distreal validation_study`; `--help` explains the options; the program is in `distreal_jax/commands/`.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("validation_study")
