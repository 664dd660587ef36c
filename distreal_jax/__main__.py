"""`python -m distreal_jax COMMAND`: the same as `distreal COMMAND`."""

from distreal_jax.commands import main

if __name__ == "__main__":
    main()
