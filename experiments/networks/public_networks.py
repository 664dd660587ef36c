"""Which public networks can DISTREAL train unchanged, and what of each can be dropped?

The networks are other people's, and are not part of this repository: this script takes them from a folder of yours
(`sources.py` says what has to be in it) and prints the table of docs/networks.md.

    PYTHONPATH=. python experiments/networks/public_networks.py PACKAGES [NAME ...]
"""

import collections
import math
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.tracing import TracedNetwork, call_network, trace_network
from experiments.networks.sources import (
    LENGTH,
    SIDE,
    VOCABULARY,
    Build,
    TokensAlone,
    bonsai,
    image,
    jaxvision,
    of_file,
    of_page,
    packages,
    tokens,
)

PAGES = "flax/docs_nnx/examples"


def gemma_config(make: Any) -> Any:
    """A small gemma 3: local and global attention, fewer heads for keys than for queries."""
    kinds = sys.modules[make.__module__].AttentionType
    return make(
        num_layers=2,
        num_embed=VOCABULARY,
        embed_dim=24,
        hidden_dim=48,
        num_heads=4,
        head_dim=8,
        num_kv_heads=2,
        final_logit_softcap=30.0,
        use_post_attn_norm=True,
        use_post_ffw_norm=True,
        attention_types=(kinds.LOCAL_SLIDING, kinds.GLOBAL),
        use_qk_norm=True,
        sliding_window_size=8,
        dropout_rate=0.1,
    )


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
NETWORKS: dict[str, tuple[Build, Any]] = {
    "Flax: MNIST example, CNN": (of_file("flax/examples/mnist/train.py", lambda m: m.CNN(nnx.Rngs(0))), image(28, 28, 1)),
    "Flax: ViT": (
        of_page(
            f"{PAGES}/vit_training.md",
            lambda m: m.VisionTransformer(
                m.ModelConfig(
                    num_classes=10, img_size=SIDE, patch_size=8, num_layers=2, num_heads=3, mlp_dim=48, hidden_size=24
                ),
                rngs=nnx.Rngs(0),
            ),
        ),
        image(SIDE, SIDE, 3),
    ),
    "Flax: UNETR": (
        of_page(
            f"{PAGES}/image_segmentation.md",
            lambda m: m.UNETR(
                m.ModelConfig(3, m.ViTConfig(img_size=SIDE, num_heads=3, mlp_dim=48, hidden_size=24), feature_size=4),
                rngs=nnx.Rngs(0),
            ),
        ),
        image(SIDE, SIDE, 3),
    ),
    "Flax: DETR": (
        of_page(
            f"{PAGES}/object_detection_detr.md",
            lambda m: m.MinimalDETR(10, 24, 3, num_encoder_layers=1, num_decoder_layers=1, rngs=nnx.Rngs(0)),
        ),
        image(64, 64, 3),
    ),
    "Flax: diffusion UNet": (
        of_page(f"{PAGES}/digits_diffusion_model.md", lambda m: m.UNet(1, 1, 8, rngs=nnx.Rngs(0))),
        (image(16, 16, 1), jax.ShapeDtypeStruct((1,), jnp.float32)),
    ),
    "Flax: lm1b, language model": (
        of_file(
            "flax-0.12.1/examples/lm1b_nnx/models.py",
            lambda m: m.TransformerLM(
                m.TransformerConfig(
                    VOCABULARY, VOCABULARY, emb_dim=24, num_heads=3, num_layers=2, qkv_dim=24, mlp_dim=48, max_len=LENGTH
                ),
                rngs=nnx.Rngs(0),
            ),
        ),
        tokens(),
    ),
    "Flax: gemma, language model": (
        of_file(
            "flax/examples/gemma/transformer.py",
            lambda m: TokensAlone(m.Transformer(gemma_config(m.TransformerConfig), rngs=nnx.Rngs(0)), m),
        ),
        tokens(),
    ),
    "Flax: translation": (
        of_page(
            f"{PAGES}/machine_translation.md",
            lambda m: m.TransformerModel(LENGTH, VOCABULARY, 24, 48, 3, 0.1, rngs=nnx.Rngs(0)),
        ),
        (tokens(), tokens()),
    ),
    "bonsai: VGG": (
        bonsai("vgg19", "VGG", lambda m: m.ModelConfig(10, [1, 1, 2, 2, 2], [8, 16, 16, 24, 24, 64])),
        image(64, 64, 3),
    ),
    "bonsai: ResNet-50": (bonsai("resnet", "ResNet", lambda m: m.ModelConfig([1, 1, 1, 1], 10)), image(SIDE, SIDE, 3)),
    "bonsai: DenseNet": (
        bonsai("densenet121", "DenseNet", lambda m: m.ModelConfig(10, [2, 2, 2, 2], 8)),
        image(64, 64, 3),
    ),
    "bonsai: EfficientNet-B0": (bonsai("efficientnet", "EfficientNet", lambda m: m.ModelConfig.b0(10)), image(64, 64, 3)),
    "bonsai: ConvNeXt": (
        bonsai("convnext", "ConvNeXt", lambda m: m.ModelConfig((1, 1, 2, 1), (16, 24, 32, 48), 0.1, 10)),
        image(64, 64, 3),
    ),
    "bonsai: UNet": (bonsai("unet", "UNet", lambda m: m.ModelConfig(features=(4, 8, 16, 32, 64))), image(SIDE, SIDE, 1)),
    "bonsai: ViT": (bonsai("vit", "ViTClassificationModel", lambda m: m.ModelConfig(**SMALL_VIT)), image(SIDE, SIDE, 3)),
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
        image(3, SIDE, SIDE),
    ),
    "JaxVision: AlexNet": (jaxvision("alexnet", "alexnet", num_classes=10), image(64, 64, 3)),
    "JaxVision: ResNet-18": (jaxvision("resnet", "resnet18", num_classes=10), image(SIDE, SIDE, 3)),
    "JaxVision: ResNeXt-50": (jaxvision("resnet", "resnext50_32x4d", num_classes=10), image(SIDE, SIDE, 3)),
    "JaxVision: MobileNetV2": (jaxvision("mobilenetv2", "mobilenet_v2", width_mult=0.25, num_classes=10), image(64, 64, 3)),
    "JaxVision: MobileNetV3": (jaxvision("mobilenetv3", "mobilenet_v3_small", num_classes=10), image(64, 64, 3)),
    "JaxVision: MNASNet": (jaxvision("mnasnet", "mnasnet0_5", num_classes=10), image(64, 64, 3)),
    "JaxVision: ShuffleNetV2": (jaxvision("shufflenetv2", "shufflenet_v2_x0_5", num_classes=10), image(64, 64, 3)),
    "JaxVision: SqueezeNet": (jaxvision("squeezenet", "squeezenet1_1", num_classes=10), image(64, 64, 3)),
    "JaxVision: ConvNeXt-T": (jaxvision("convnext", "convnext_tiny", num_classes=10), image(64, 64, 3)),
    "JaxVision: GoogLeNet": (jaxvision("googlenet", "googlenet", num_classes=10), image(64, 64, 3)),
    "JaxVision: ViT-B/16": (
        jaxvision("vision_transformer", "vit_b_16", num_classes=10, image_size=32),
        image(SIDE, SIDE, 3),
    ),
}

_DIMENSIONS = re.compile(r"dim_numbers = \[(.*?)\]x\[(.*?)\]->\[(.*?)\]")
_TYPES = re.compile(r": \(tensor<([\dx]*)x\w+>, tensor<([\dx]*)x\w+>\) -> tensor<([\dx]*)x\w+>")


def macs_of_the_compiler(model: nnx.Module, example: Any) -> int | None:
    """Multiply-accumulates of one example, counted in what JAX hands to its compiler; None if the network loops.

    It knows nothing of labels: convolutions and products of matrices are read from the text, by the shapes that stand there.
    """
    graphdef, state = nnx.split(model)

    def forward(state: Any, inputs: Any) -> Any:
        return call_network(nnx.merge(graphdef, state), inputs, train=True)

    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example)
    text = jax.jit(forward).lower(state, two).as_text()
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


def row(name: str, build: Build, example: Any) -> str:
    """A line of the table."""
    try:
        model = nnx.eval_shape(build)
    except Exception as error:  # a package is missing, or is of a time when Flax was another
        return f"| {name} | can't be built: {type(error).__name__}: {in_one_line(error)} |"
    try:
        network = trace_network(model, example)
    except InputError as refusal:
        return f"| {name} | refused: {refusal} |"
    counted = macs_of_the_compiler(model, example)
    share = 1 - network.macs([1] * len(network.full_widths)) / network.macs()
    kinds = collections.Counter(group.kind for group in network.filter_groups)
    cells = [
        name,
        " and ".join(" x ".join(map(str, leaf.shape[1:])) or "1" for leaf in jax.tree.leaves(example)),
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
    packages()
    heads = ("network", "input", "groups", "filters", "can be dropped", "MACs", "the compiler's", "agreement", "kept whole")
    sys.stdout.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for name, (build, example) in NETWORKS.items():
        if len(sys.argv) == 2 or any(part in name for part in sys.argv[2:]):
            sys.stdout.write(f"{row(name, build, example)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
