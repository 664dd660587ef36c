"""What does the numerical proof add to a trace?

    PYTHONPATH=. python experiments/networks/proof_time.py [TURNS]

Prints a table of docs/networks.md: seconds of `trace_network` without the proof and with it, as in a process that has traced
nothing yet, and of the same network once more, medians over turns (7 if nothing is said).
"""

import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from distreal_jax.networks import make_network
from distreal_jax.tracing import proof, trace, trace_network


class Block(nnx.Module):
    """Attention and two dense layers, each behind a normalisation."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        """`width` of the stream; hidden layers are four times as wide."""
        self.before, self.after = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, dropout_rate=0.1, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The stream [batch, tokens, width], with what the block adds."""
        x = x + self.attention(self.before(x))
        return x + self.down(nnx.gelu(self.up(self.after(x))))


class Transformer(nnx.Module):
    """A vision transformer of six blocks, 192 wide, on patches of 4 x 4."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """With new weights."""
        self.patches = nnx.Conv(3, 192, (4, 4), strides=4, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((1, 64, 192)))
        self.blocks = nnx.List([Block(192, 3, rngs) for _ in range(6)])
        self.norm, self.classifier = nnx.LayerNorm(192, rngs=rngs), nnx.Linear(192, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [batch, 32, 32, 3] to logits."""
        x = self.patches(images)
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.norm(x).mean(axis=1))


SIDES = {"digits_cnn": (8, 8, 1), "leaf_cnn": (28, 28, 1)}  # of the others: 32 x 32 x 3


def networks() -> dict[str, tuple[Callable[[], nnx.Module], tuple[int, ...]]]:
    """What is traced, and the shape of an image."""
    found = {}
    for name in ("digits_cnn", "small_cnn", "leaf_cnn", "resnet20", "densenet40"):
        shape = SIDES.get(name, (32, 32, 3))
        found[name] = (lambda name=name, shape=shape: make_network(name, image_shape=shape, num_classes=10, seed=0)), shape
    return {**found, "transformer": (lambda: Transformer(nnx.Rngs(0)), (32, 32, 3))}


def seconds(model: nnx.Module, shape: tuple[int, ...], *, by_numbers: bool) -> float:
    """Of one trace."""
    start = time.perf_counter()
    trace_network(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32), proof=by_numbers)
    return time.perf_counter() - start


def forget() -> None:
    """What this process has traced and proved."""
    jax.clear_caches()
    trace._traced_before.clear()
    proof._proved.clear()


def main() -> None:
    """Writes the table."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds(nnx.eval_shape(networks()["digits_cnn"][0]), (8, 8, 1), by_numbers=True)  # loads what is loaded late
    sys.stdout.write(f"{os.cpu_count()} CPUs; jax {jax.__version__}; {datetime.date.today()}; {turns} turns\n\n")
    sys.stdout.write(
        "| network | without the proof (s) | with it (s) | it adds (s) | once more (s) |\n|---|---|---|---|---|\n"
    )
    for name, (build, shape) in networks().items():
        without, proved, again = [], [], []
        for _ in range(turns):
            model = nnx.eval_shape(build)
            forget()
            without.append(seconds(model, shape, by_numbers=False))
            forget()
            proved.append(seconds(model, shape, by_numbers=True))
            again.append(seconds(nnx.eval_shape(build), shape, by_numbers=True))
        added = statistics.median(b - a for a, b in zip(without, proved, strict=True))
        cells = *map(statistics.median, (without, proved)), added, statistics.median(again)
        sys.stdout.write(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
