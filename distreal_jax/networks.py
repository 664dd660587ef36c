"""The networks the experiments train: plain Flax NNX modules that know nothing of dropping.

Nothing here is annotated for the rest of the project, and any other Flax NNX module may take the place of these. Calls read
every size from the array they are given, never from a number fixed at construction, so that a network handed smaller
parameters runs as its own sub-network.

Weights start as in He et al., ICCV 2015 (normal, variance 2 / fan-in) before a ReLU, as in LeCun et al., 1998
(variance 1 / fan-in) in the classifier; both are truncated at two standard deviations, as JAX's initialisers are.
Biases start at zero, BatchNorm scales at one. `model.train()` makes BatchNorm use the statistics of the mini-batch,
`model.eval()` the running ones.
"""

import functools
from typing import Protocol

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from distreal_jax.errors import InputError, choose_from

Images = Float[Array, "batch height width channels"]
Logits = Float[Array, "batch num_classes"]
ImageShape = tuple[int, int, int]
"""Height, width and channels of one image."""

_HE_NORMAL = nnx.initializers.he_normal()
_RUNNING_AVERAGE_MOMENTUM = 0.9  # the default of the frameworks that ResNet and DenseNet were published with; Flax's is 0.99

_Conv = functools.partial(nnx.Conv, kernel_init=_HE_NORMAL)
_HiddenDense = functools.partial(nnx.Linear, kernel_init=_HE_NORMAL)
_BatchNorm = functools.partial(nnx.BatchNorm, momentum=_RUNNING_AVERAGE_MOMENTUM)


class Architecture(Protocol):
    """What builds a network: its class, and the smallest image side that its pooling leaves something of."""

    smallest_side: int

    def __call__(self, image_shape: ImageShape, num_classes: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the network with fresh weights."""


def _halve_by_maximum(x: Images) -> Images:
    halved: Images = nnx.max_pool(x, (2, 2), strides=(2, 2))
    return halved


def _flatten(x: Images) -> Float[Array, "batch features"]:
    return x.reshape(x.shape[0], -1)


def _average_over_image(x: Images) -> Float[Array, "batch channels"]:
    return jnp.mean(x, axis=(1, 2))


class LeafCNN(nnx.Module):
    """The CNN of McMahan et al., AISTATS 2017, which LEAF (Caldas et al., 2018) took over for FEMNIST.

    Two 5x5 convolutions of 32 and 64 filters, each followed by ReLU and 2x2 maximum pooling, then 512 hidden units as in
    McMahan et al.; LEAF's file has 2048.
    """

    smallest_side = 4

    def __init__(self, image_shape: ImageShape, num_classes: int, *, rngs: nnx.Rngs) -> None:
        height, width, channels = image_shape
        self.conv1 = _Conv(channels, 32, (5, 5), rngs=rngs)
        self.conv2 = _Conv(32, 64, (5, 5), rngs=rngs)
        self.hidden = _HiddenDense((height // 2 // 2) * (width // 2 // 2) * 64, 512, rngs=rngs)
        self.classifier = nnx.Linear(512, num_classes, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """The logits of float32 images."""
        x = _halve_by_maximum(nnx.relu(self.conv1(images)))
        x = _halve_by_maximum(nnx.relu(self.conv2(x)))
        return self.classifier(nnx.relu(self.hidden(_flatten(x))))


class SmallCNN(nnx.Module):
    """A small CNN for 28x28 images, chosen by us: two 3x3 convolutions (16, 32 filters), each pooled, and 128 hidden units.

    A tenth of the LEAF CNN's MACs: small enough to run every method with several seeds on two CPU cores.
    """

    smallest_side = 4

    def __init__(self, image_shape: ImageShape, num_classes: int, *, rngs: nnx.Rngs) -> None:
        height, width, channels = image_shape
        self.conv1 = _Conv(channels, 16, (3, 3), rngs=rngs)
        self.conv2 = _Conv(16, 32, (3, 3), rngs=rngs)
        self.hidden = _HiddenDense((height // 4) * (width // 4) * 32, 128, rngs=rngs)
        self.classifier = nnx.Linear(128, num_classes, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """The logits of float32 images."""
        x = _halve_by_maximum(nnx.relu(self.conv1(images)))
        x = _halve_by_maximum(nnx.relu(self.conv2(x)))
        return self.classifier(nnx.relu(self.hidden(_flatten(x))))


class DigitsCNN(nnx.Module):
    """A small CNN for 8x8 images, chosen by us: three 3x3 convolutions (16, 32, 32 filters) and 64 hidden units.

    It trains in seconds on a laptop, and its layers differ enough in cost and use for a search over rates to have a point.
    """

    smallest_side = 2

    def __init__(self, image_shape: ImageShape, num_classes: int, *, rngs: nnx.Rngs) -> None:
        height, width, channels = image_shape
        self.conv1 = _Conv(channels, 16, (3, 3), rngs=rngs)
        self.conv2 = _Conv(16, 32, (3, 3), rngs=rngs)
        self.conv3 = _Conv(32, 32, (3, 3), rngs=rngs)
        self.hidden = _HiddenDense((height // 2) * (width // 2) * 32, 64, rngs=rngs)
        self.classifier = nnx.Linear(64, num_classes, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """The logits of float32 images."""
        x = nnx.relu(self.conv1(images))
        x = _halve_by_maximum(nnx.relu(self.conv2(x)))
        x = nnx.relu(self.conv3(x))
        return self.classifier(nnx.relu(self.hidden(_flatten(x))))


class _ResidualBlock(nnx.Module):
    """Two 3x3 convolutions around which the input is added, through a 1x1 projection where the shapes differ (option B)."""

    def __init__(self, features_in: int, features: int, stride: int, *, rngs: nnx.Rngs) -> None:
        conv3x3 = functools.partial(_Conv, kernel_size=(3, 3), padding=1, use_bias=False, rngs=rngs)
        self.conv1 = conv3x3(features_in, features, strides=stride)
        self.norm1 = _BatchNorm(features, rngs=rngs)
        self.conv2 = conv3x3(features, features)
        self.norm2 = _BatchNorm(features, rngs=rngs)
        self.projected = stride != 1 or features_in != features
        if self.projected:
            self.projection = _Conv(features_in, features, (1, 1), strides=stride, use_bias=False, rngs=rngs)
            self.projection_norm = _BatchNorm(features, rngs=rngs)

    def __call__(self, x: Images) -> Images:
        shortcut = self.projection_norm(self.projection(x)) if self.projected else x
        x = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(x)) + shortcut)


class ResNet20(nnx.Module):
    """ResNet-20 for small images (He et al., CVPR 2016, section 4.2), with their option B: shortcuts by 1x1 convolutions.

    Three stages of three residual blocks with 16, 32 and 64 filters; the first block of the second and third stage halves
    the image. A subclass with another `first_filters` has as many in the first stage, twice and four times as many after it.
    """

    smallest_side = 4
    first_filters = 16

    def __init__(self, image_shape: ImageShape, num_classes: int, *, rngs: nnx.Rngs) -> None:
        features_in = self.first_filters
        self.conv = _Conv(image_shape[2], features_in, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.norm = _BatchNorm(features_in, rngs=rngs)
        blocks = []
        for stage in range(3):
            features = self.first_filters * 2**stage
            for position in range(3):
                stride = 2 if position == 0 and stage > 0 else 1
                blocks.append(_ResidualBlock(features_in, features, stride, rngs=rngs))
                features_in = features
        self.blocks = nnx.List(blocks)
        self.classifier = nnx.Linear(features_in, num_classes, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """The logits of float32 images."""
        x = nnx.relu(self.norm(self.conv(images)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(_average_over_image(x))


class _DenseLayer(nnx.Module):
    """A bottleneck of 4k filters and a 3x3 convolution of k, whose result is concatenated to the input."""

    def __init__(self, features_in: int, growth: int, *, rngs: nnx.Rngs) -> None:
        self.norm1 = _BatchNorm(features_in, rngs=rngs)
        self.bottleneck = _Conv(features_in, 4 * growth, (1, 1), use_bias=False, rngs=rngs)
        self.norm2 = _BatchNorm(4 * growth, rngs=rngs)
        self.conv = _Conv(4 * growth, growth, (3, 3), use_bias=False, rngs=rngs)

    def __call__(self, x: Images) -> Images:
        new = self.bottleneck(nnx.relu(self.norm1(x)))
        new = self.conv(nnx.relu(self.norm2(new)))
        return jnp.concatenate([x, new], axis=-1)


class _Transition(nnx.Module):
    """A 1x1 convolution that compresses the features, and 2x2 average pooling."""

    def __init__(self, features_in: int, features: int, *, rngs: nnx.Rngs) -> None:
        self.norm = _BatchNorm(features_in, rngs=rngs)
        self.conv = _Conv(features_in, features, (1, 1), use_bias=False, rngs=rngs)

    def __call__(self, x: Images) -> Images:
        halved: Images = nnx.avg_pool(self.conv(nnx.relu(self.norm(x))), (2, 2), strides=(2, 2))
        return halved


class DenseNet40(nnx.Module):
    """DenseNet-BC with 40 layers, growth k = 12 and compression 0.5 (Huang et al., CVPR 2017, sections 3 and 4.2).

    Three blocks of six dense layers; the first convolution has 2k filters.
    """

    smallest_side = 4

    def __init__(self, image_shape: ImageShape, num_classes: int, *, rngs: nnx.Rngs) -> None:
        growth = 12
        features = 2 * growth
        self.conv = _Conv(image_shape[2], features, (3, 3), use_bias=False, rngs=rngs)
        layers: list[nnx.Module] = []
        for block in range(3):
            if block > 0:
                layers.append(_Transition(features, features // 2, rngs=rngs))
                features //= 2
            for _ in range(6):
                layers.append(_DenseLayer(features, growth, rngs=rngs))
                features += growth
        self.layers = nnx.List(layers)
        self.norm = _BatchNorm(features, rngs=rngs)
        self.classifier = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """The logits of float32 images."""
        x = self.conv(images)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(_average_over_image(nnx.relu(self.norm(x))))


NETWORKS: dict[str, Architecture] = {
    "digits_cnn": DigitsCNN,
    "small_cnn": SmallCNN,
    "leaf_cnn": LeafCNN,
    "resnet20": ResNet20,
    "densenet40": DenseNet40,
}


def make_network(name: str, *, image_shape: ImageShape, num_classes: int, seed: int) -> nnx.Module:
    """The network of that name with fresh weights, in training mode.

    Args:
      name: A key of `NETWORKS`.
      image_shape: Height, width and channels of one image.
      num_classes: How many logits it has.
      seed: Decides the weights, together with the other arguments and nothing else.

    Returns:
      A module that maps float32 images of shape (batch, height, width, channels) to logits of shape (batch, num_classes).

    Raises:
      InputError: No such network (the valid names are listed), or images too small for its pooling, or a size below 1.
    """
    if name not in NETWORKS:
        raise InputError(f"unknown network {name!r}; {choose_from(name, NETWORKS)}")
    architecture = NETWORKS[name]
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise InputError(f"image shape {image_shape} is not (height, width, channels), each at least 1; give all three")
    if num_classes < 1:
        raise InputError(f"a network can't have {num_classes} classes; give at least 1")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give a whole number from 0")
    height, width, _ = image_shape
    side = architecture.smallest_side
    if min(height, width) < side:
        fitting = [other for other, candidate in NETWORKS.items() if min(height, width) >= candidate.smallest_side]
        remedy = f"choose from: {', '.join(fitting)}" if fitting else "resize the images"
        raise InputError(f"{name} needs images of at least {side}x{side}, these are {height}x{width}; {remedy}")
    return architecture(image_shape, num_classes, rngs=nnx.Rngs(params=seed))
