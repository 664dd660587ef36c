"""Is the proxy right? What the search measures of a dropout vector, and what a federation that trains with it comes to.

The same as `distreal proxy_study`; `--help` explains the options, `distreal_jax/commands/proxy_study.py` is the program.
"""

from distreal_jax.commands import run

if __name__ == "__main__":
    run("proxy_study")
