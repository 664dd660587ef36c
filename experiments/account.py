"""Where the time of a client's step goes: one JSON line for one network and width, on one core.

The same as `distreal account`; `--help` explains the options, `distreal_jax/commands/account.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("account")
