"""Experiments that are written down: a question, a command, what to expect, and the options as a value."""

import sys

from distreal_jax.loading import end_at_ctrl_c

if sys.argv[0] == "-m":  # so it is while `python -m experiments.configs.NAME` imports
    end_at_ctrl_c()
