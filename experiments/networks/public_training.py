"""Do public transformers train with DISTREAL as they are, and masked as compact?

Small ones of other people's, from a folder of yours (`sources.py` says what has to be in it), in a federation of twelve
devices: vision transformers on digits, enlarged, and language models on sequences whose tokens follow each from two before.
Filters of convolutions, dense units and heads are dropped. Each is trained twice, with the dropped filters at zero (masked)
and without them (compact), and the server's parameters are compared.

    PYTHONPATH=. python experiments/networks/public_training.py PACKAGES [NAME ...]
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from distreal_jax import DropoutTable
from distreal_jax.data import Dataset
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.programs import Execution
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import method_named
from distreal_jax.step import Task
from experiments.networks.public_networks import NETWORKS
from experiments.networks.sources import LENGTH, VOCABULARY, packages

ROUNDS = 4
SHIFTING = "Flax: lm1b, language model"  # shifts its input itself
NAMES = ("Flax: ViT", "bonsai: ViT", SHIFTING, "Flax: gemma, language model")


def digits() -> Dataset:
    """Digits of 32 x 32 pixels and three equal channels."""
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8, 1), np.ones((1, 4, 4, 3))).astype(np.uint8)
    arrays = {"train_images": images[:1400], "train_labels": labels[:1400]}
    return Dataset.from_arrays("digits32", 10, {**arrays, "test_images": images[1400:], "test_labels": labels[1400:]})


def sequences(*, shifted: bool) -> Dataset:
    """Sequences of tokens, and for each place the token that comes next, unless the network itself shifts them."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, VOCABULARY, (1500, LENGTH + 1))
    for place in range(2, LENGTH + 1):
        tokens[:, place] = 1 + (tokens[:, place - 1] + 3 * (tokens[:, place - 2] % 2)) % (VOCABULARY - 1)
    tokens *= np.arange(LENGTH + 1) < generator.integers(8, LENGTH + 2, (1500, 1))
    given, wanted = (tokens[:, :-1], tokens[:, 1:]) if shifted else (tokens[:, :-1], tokens[:, :-1])

    def loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        counted = targets > 0
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets) * counted
        return losses.sum(axis=1) / counted.sum(axis=1)

    def right(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        counted = targets > 0
        return ((outputs.argmax(axis=-1) == targets) & counted).sum(axis=1), counted.sum(axis=1)

    arrays = {"train_inputs": given[:1200], "train_targets": wanted[:1200]}
    arrays |= {"test_inputs": given[1200:], "test_targets": wanted[1200:]}
    return Dataset.from_arrays("sequences", Task(loss, right, "accuracy of tokens"), arrays)


def trained(name: str, execution: Execution) -> tuple[World, Any, list[float]]:
    """The world, the server's parameters in the end, and the losses on test data before and after."""
    build, _ = NETWORKS[name]
    dataset = digits() if "ViT" in name else sequences(shifted=name != SHIFTING)
    settings = WorldSettings(partition="iid", devices=12, availability="redrawn:0.1,1,3")
    world = World.make(settings, seed=0, dataset=dataset, model=build())
    full = world.network.full_widths
    widths = [
        full,
        [-(-count // 2) for count in full],
        [-(-count // (4 if index % 2 else 2)) for index, count in enumerate(full)],
    ]
    table = DropoutTable.from_widths(world.network, widths, provenance={"made_by": "halves and quarters of all groups"})
    training = TrainingSettings(devices_per_round=4, steps=4, learning_rate=0.1)
    federation = Federation(world, method_named("distreal"), table, training, execution)
    server = federation.start()
    losses = [federation.evaluate(server.params).loss]
    for index in range(ROUNDS):
        server, _ = federation.run_round(server, federation.plan(index)[1], index)
    return world, server.params, [*losses, federation.evaluate(server.params).loss]


def difference(ones: Any, others: Any) -> float:
    """The largest difference between two trees, of the largest number."""
    pairs = [
        (np.asarray(one, np.float64), np.asarray(other, np.float64))
        for one, other in zip(jax.tree.leaves(ones), jax.tree.leaves(others), strict=True)
        if jnp.issubdtype(one.dtype, jnp.floating)
    ]
    return max(float(np.abs(one - other).max()) for one, other in pairs) / max(float(np.abs(one).max()) for one, _ in pairs)


def main() -> None:
    """Writes a table."""
    packages()
    heads = ("network", "groups", "loss before", "after", "masked and compact differ by")
    sys.stdout.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for name in NAMES:
        if len(sys.argv) == 2 or any(part in name for part in sys.argv[2:]):
            world, compact, losses = trained(name, "compact")
            _, masked, _ = trained(name, "masked")
            kinds = [group.kind for group in world.network.filter_groups]
            groups = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            said = " | ".join(f"{loss:.2f}" for loss in losses)
            sys.stdout.write(f"| {name} | {groups} | {said} | {difference(compact, masked):.0e} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
