"""The benchmark's workloads in PyTorch, as simulators run them: one client after the other, one model copied for each."""

import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn


class Sizes(Protocol):
    """What of a workload a loop needs."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    @property
    def num_classes(self) -> int:
        """Logits."""

    @property
    def clients(self) -> int:
        """Of a round."""

    @property
    def steps(self) -> int:
        """Mini-batches of a client."""

    @property
    def batch_size(self) -> int:
        """Examples of a mini-batch."""


class Block(nn.Module):
    """A residual block of ResNet-20, with a projection where shapes differ."""

    def __init__(self, before: int, filters: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, filters, 3, stride, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        same = stride == 1 and before == filters
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] to the same, or half its sides."""
        return torch.relu(self.body(images) + self.shortcut(images))


class DenseLayer(nn.Module):
    """A bottleneck and a 3x3 convolution, whose result is concatenated to the input."""

    def __init__(self, before: int, bottleneck: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, bottleneck, 1, bias=False),
            nn.BatchNorm2d(bottleneck),
            nn.ReLU(),
            nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] to so many channels more."""
        return torch.cat([images, self.body(images)], dim=1)


def model_of(name: str, sizes: Sizes, keep: float) -> nn.Module:
    """A workload's network, built with that fraction of the filters of each layer.

    Args:
      name: Of the workload.
      sizes: Its image shape and classes.
      keep: The fraction, above 0 and up to 1.
    """
    channels = sizes.image_shape[2]
    classes = sizes.num_classes
    width = lambda filters: max(1, round(filters * keep))  # noqa: E731
    average = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if name == "A":
        body = [nn.Conv2d(channels, width(32), 3), nn.ReLU(), nn.Conv2d(width(32), width(64), 3), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Flatten(), nn.Linear(14 * 14 * width(64), width(128)), nn.ReLU(), nn.Linear(width(128), classes)]
        return nn.Sequential(*body, *head)
    if name == "B":
        body = [nn.Conv2d(channels, width(32), 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        body += [nn.Conv2d(width(32), width(64), 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Flatten(), nn.Linear(7 * 7 * width(64), width(512)), nn.ReLU(), nn.Linear(width(512), classes)]
        return nn.Sequential(*body, *head)
    layers: list[nn.Module]
    if name == "resnet20":
        before = width(16)
        layers = [nn.Conv2d(channels, before, 3, padding=1, bias=False), nn.BatchNorm2d(before), nn.ReLU()]
        for stage, filters in enumerate((16, 32, 64)):
            for position in range(3):
                layers.append(Block(before, width(filters), 2 if stage and not position else 1))
                before = width(filters)
        return nn.Sequential(*layers, *average, nn.Linear(before, classes))
    before, whole = width(24), 24
    layers = [nn.Conv2d(channels, before, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            whole //= 2
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, width(whole), 1, bias=False), nn.AvgPool2d(2)]
            before = width(whole)
        for _ in range(6):
            layers.append(DenseLayer(before, width(48), width(12)))
            before, whole = before + width(12), whole + 12
    return nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU(), *average, nn.Linear(before, classes))


def loop_of(name: str, sizes: Sizes, keep: float, *, channels_last: bool, threads: int) -> Callable[[int], float]:
    """A round of that workload.

    Args:
      name: The workload.
      sizes: Its sizes.
      keep: Fraction of each layer's filters.
      channels_last: Whether images and kernels lie in memory with channels last.
      threads: Of PyTorch on a CPU.

    Returns:
      A function of the round's number that gives seconds per client-step.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    server, client = (model_of(name, sizes, keep).to(device, memory_format=layout) for _ in range(2))
    height, width, channels = sizes.image_shape
    shape = (sizes.clients, sizes.steps, sizes.batch_size)
    images = torch.randn(*shape, channels, height, width, device=device)
    labels = torch.randint(sizes.num_classes, shape, device=device)

    def loop(_: int) -> float:
        begin = time.perf_counter()
        total: dict[str, torch.Tensor] = {
            name: torch.zeros_like(value, dtype=torch.float32) for name, value in server.state_dict().items()
        }
        for number in range(sizes.clients):
            client.load_state_dict(server.state_dict())
            optimizer = torch.optim.SGD(client.parameters(), lr=0.1)
            for index in range(sizes.steps):
                optimizer.zero_grad()
                batch = images[number, index].to(memory_format=layout)
                nn.functional.cross_entropy(client(batch), labels[number, index]).backward()
                optimizer.step()
            for name, value in client.state_dict().items():
                total[name] += value / sizes.clients
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / (sizes.clients * sizes.steps)

    loop(0)
    return loop
