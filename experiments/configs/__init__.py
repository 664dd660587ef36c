"""Experiments that are written down: a question, a command, what to expect, and the options as a value."""

import signal
import sys

if sys.argv[0] == "-m":  # so it is while `python -m experiments.configs.NAME` imports; then Ctrl-C ends it at once
    signal.signal(signal.SIGINT, signal.SIG_DFL)
