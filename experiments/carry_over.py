"""Does a table carry over: to another data set, to later training, to devices whose data differ?

The same as `distreal carry_over`; `--help` explains the options, `distreal_jax/commands/carry_over.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("carry_over")
