"""What each entry of a dropout table costs on this device: seconds of its training step, and FLOPs by XLA's count.

The same as `distreal profile`; `--help` explains the options, `distreal_jax/commands/profile.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("profile")
