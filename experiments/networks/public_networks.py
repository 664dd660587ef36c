"""Which public networks can DISTREAL train unchanged, and what of each can be dropped?

The networks are other people's, and are not part of this repository: this script imports their packages from a folder of
yours and prints the table of docs/networks.md.

    git clone https://github.com/jax-ml/bonsai PACKAGES/bonsai
    git clone https://github.com/imgengineer/JaxVision PACKAGES/JaxVision
    git clone https://github.com/google/flax PACKAGES/flax
    PYTHONPATH=. python experiments/networks/public_networks.py PACKAGES [NAME ...]

Widths and depths are small where a network takes them as arguments, so that a laptop traces each in seconds.
"""

import collections
import importlib
import importlib.util
import math
import re
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.tracing import TracedNetwork, call_network, trace_network

Shape = tuple[int, ...]


def without(*packages: str) -> None:
    """Lets code be imported without packages that it reads data and writes logs with."""
    for unused in packages:
        sys.modules.setdefault(unused, unittest.mock.MagicMock())


def bonsai(name: str, network: str, config: Callable[[Any], Any]) -> Callable[[], nnx.Module]:
    """A network of bonsai: its module, its class, and its configuration from the module."""

    def build() -> nnx.Module:
        module = importlib.import_module(f"bonsai.models.{name}.modeling")
        return getattr(module, network)(config(module), rngs=nnx.Rngs(0))

    return build


def jaxvision(name: str, network: str, **arguments: Any) -> Callable[[], nnx.Module]:
    """A network of JaxVision: its module, and its function with arguments."""

    def build() -> nnx.Module:
        without("albumentations", "cv2", "grain", "grain.python")
        flax.config.update("flax_pytree_module", False)  # lists of layers, as Flax had them until 0.11
        module = importlib.import_module(f"jaxvision.models.{name}")
        return getattr(module, network)(rngs=nnx.Rngs(0), **arguments)

    return build


def of_file(path: str, network: str) -> Callable[[], nnx.Module]:
    """A class in a file of one of Flax's examples."""

    def build() -> nnx.Module:
        without("absl", "ml_collections", "tensorflow", "tensorflow_datasets", "flax.metrics.tensorboard")
        spec = importlib.util.spec_from_file_location(network, Path(sys.argv[1], path))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, network)(nnx.Rngs(0))

    return build


SMALL_VIT = dict(
    image_size=(32, 32),
    patch_size=(8, 8),
    num_channels=3,
    hidden_dim=24,
    attn_dropout_prob=0.1,
    dropout_prob=0.1,
    num_heads=3,
    mlp_dim=48,
    eps=1e-6,
    num_layers=2,
    num_labels=10,
)
SIDE = 32
NETWORKS: dict[str, tuple[Callable[[], nnx.Module], Shape]] = {
    "Flax: MNIST example, CNN": (of_file("flax/examples/mnist/train.py", "CNN"), (28, 28, 1)),
    "bonsai: VGG": (
        bonsai("vgg19", "VGG", lambda m: m.ModelConfig(10, [1, 1, 2, 2, 2], [8, 16, 16, 24, 24, 64])),
        (64, 64, 3),
    ),
    "bonsai: ResNet-50": (bonsai("resnet", "ResNet", lambda m: m.ModelConfig([1, 1, 1, 1], 10)), (SIDE, SIDE, 3)),
    "bonsai: DenseNet": (
        bonsai("densenet121", "DenseNet", lambda m: m.ModelConfig(10, [2, 2, 2, 2], 8)),
        (64, 64, 3),
    ),
    "bonsai: EfficientNet-B0": (bonsai("efficientnet", "EfficientNet", lambda m: m.ModelConfig.b0(10)), (64, 64, 3)),
    "bonsai: ConvNeXt": (
        bonsai("convnext", "ConvNeXt", lambda m: m.ModelConfig((1, 1, 2, 1), (16, 24, 32, 48), 0.1, 10)),
        (64, 64, 3),
    ),
    "bonsai: UNet": (bonsai("unet", "UNet", lambda m: m.ModelConfig(features=(4, 8, 16, 32, 64))), (SIDE, SIDE, 1)),
    "bonsai: ViT": (bonsai("vit", "ViTClassificationModel", lambda m: m.ModelConfig(**SMALL_VIT)), (SIDE, SIDE, 3)),
    "bonsai: DINOv3": (
        bonsai(
            "dinov3",
            "Dinov3ViTModel",
            lambda m: m.ModelConfig(
                patch_size=(8, 8),
                hidden_size=24,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=32,
            ),
        ),
        (3, SIDE, SIDE),
    ),
    "JaxVision: AlexNet": (jaxvision("alexnet", "alexnet", num_classes=10), (64, 64, 3)),
    "JaxVision: ResNet-18": (jaxvision("resnet", "resnet18", num_classes=10), (SIDE, SIDE, 3)),
    "JaxVision: ResNeXt-50": (jaxvision("resnet", "resnext50_32x4d", num_classes=10), (SIDE, SIDE, 3)),
    "JaxVision: MobileNetV2": (jaxvision("mobilenetv2", "mobilenet_v2", width_mult=0.25, num_classes=10), (64, 64, 3)),
    "JaxVision: MobileNetV3": (jaxvision("mobilenetv3", "mobilenet_v3_small", num_classes=10), (64, 64, 3)),
    "JaxVision: MNASNet": (jaxvision("mnasnet", "mnasnet0_5", num_classes=10), (64, 64, 3)),
    "JaxVision: ShuffleNetV2": (jaxvision("shufflenetv2", "shufflenet_v2_x0_5", num_classes=10), (64, 64, 3)),
    "JaxVision: SqueezeNet": (jaxvision("squeezenet", "squeezenet1_1", num_classes=10), (64, 64, 3)),
    "JaxVision: ConvNeXt-T": (jaxvision("convnext", "convnext_tiny", num_classes=10), (64, 64, 3)),
    "JaxVision: GoogLeNet": (jaxvision("googlenet", "googlenet", num_classes=10), (64, 64, 3)),
    "JaxVision: ViT-B/16": (jaxvision("vision_transformer", "vit_b_16", num_classes=10, image_size=32), (SIDE, SIDE, 3)),
}

_DIMENSIONS = re.compile(r"dim_numbers = \[(.*?)\]x\[(.*?)\]->\[(.*?)\]")
_TYPES = re.compile(r": \(tensor<([\dx]*)x\w+>, tensor<([\dx]*)x\w+>\) -> tensor<([\dx]*)x\w+>")


def macs_of_the_compiler(model: nnx.Module, shape: Shape) -> int | None:
    """Multiply-accumulates of one example, counted in what JAX hands to its compiler; None if the network loops.

    It knows nothing of labels: convolutions and products of matrices are read from the text, by the shapes that stand there.
    """
    graphdef, state = nnx.split(model)

    def forward(state: Any, images: Any) -> Any:
        return call_network(nnx.merge(graphdef, state), images, train=True)

    text = jax.jit(forward).lower(state, jax.ShapeDtypeStruct((2, *shape), jnp.float32)).as_text()
    counted: dict[str, int] = collections.defaultdict(int)
    calls: dict[str, list[str]] = collections.defaultdict(list)
    function = ""
    for line in text.splitlines():
        if found := re.search(r"func\.func \w+ @([\w.]+)", line):
            function = found.group(1)
        elif found := re.search(r"call @([\w.]+)\(", line):
            calls[function].append(found.group(1))
        elif "stablehlo.convolution" in line or "stablehlo.dot_general" in line:
            if line.startswith(" " * 5):  # inside the body of a loop
                return None
            counted[function] += _macs_of(line)

    def total(function: str) -> int:
        return counted[function] + sum(map(total, calls[function]))

    return total("main") // 2


def _macs_of(line: str) -> int:
    types = _TYPES.search(line)
    assert types is not None, line
    left, right, out = ([int(length) for length in part.split("x") if length] for part in types.groups())
    if "stablehlo.dot_general" in line:
        contracting = re.search(r"contracting_dims = \[([\d, ]*)\]", line)
        along = [int(axis) for axis in contracting.group(1).split(",") if axis.strip()] if contracting else []
        return math.prod(out) * math.prod(left[axis] for axis in along)
    numbers = _DIMENSIONS.search(line)
    assert numbers is not None, line
    kernel = [axis.strip() for axis in numbers.group(2).split(",")]
    if re.search(r"lhs_dilate = \[[^\]]*[2-9]", line):  # a transposed convolution multiplies what it is given
        return math.prod(left) * math.prod(right) // right[kernel.index("i")]
    return math.prod(out) * math.prod(right) // right[kernel.index("o")]


def row(name: str, build: Callable[[], nnx.Module], shape: Shape) -> str:
    """A line of the table."""
    try:
        model = nnx.eval_shape(build)
    except Exception as error:  # a package is missing, or is of a time when Flax was another
        return f"| {name} | can't be built: {type(error).__name__}: {' '.join(str(error).split())[:100]} |"
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        network = trace_network(model, example)
    except InputError as refusal:
        return f"| {name} | refused: {refusal} |"
    counted = macs_of_the_compiler(model, shape)
    share = 1 - network.macs([1] * len(network.full_widths)) / network.macs()
    kinds = collections.Counter(group.kind for group in network.filter_groups)
    cells = [
        name,
        " x ".join(map(str, shape)),
        ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        str(sum(network.full_widths)),
        f"{share:.1%}",
        f"{network.macs():,}",
        "loops" if counted is None else "equal" if counted == network.macs() else f"{counted:,}",
        f"{network.agreement or 0:.0e}",
        whole(network),
    ]
    return f"| {' | '.join(cells)} |"


def whole(network: TracedNetwork) -> str:
    """What is kept whole, by the operations that do it."""
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for layer in network.kept_whole:
        primitive = re.search(r"primitive '(\w+)'", layer.reason)
        reasons[f"`{primitive.group(1)}`" if primitive else layer.reason].append(layer.layer)
    return "; ".join(f"{len(layers)} by {reason} ({layers[0]})" for reason, layers in reasons.items()) or "-"


def main() -> None:
    """Writes the table."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    sys.path[:0] = [str(Path(sys.argv[1], folder)) for folder in ("bonsai", "JaxVision")]
    heads = ("network", "input", "groups", "filters", "can be dropped", "MACs", "the compiler's", "agreement", "kept whole")
    sys.stdout.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for name, (build, shape) in NETWORKS.items():
        if len(sys.argv) == 2 or any(part in name for part in sys.argv[2:]):
            sys.stdout.write(f"{row(name, build, shape)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
