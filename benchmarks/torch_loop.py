"""The same training in PyTorch: in the authors' way, and as fast as PyTorch goes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

from train.data.dataset import Dataset


class Way(NamedTuple):
    """How a loop is written."""

    mode: str | None  # torch.compile's; None: eager
    channels_last: bool
    data_on_device: bool  # where batches are taken and augmented; else the CPU


def ways(device: str) -> dict[str, Way]:
    """Those to measure."""
    found = {
        "PyTorch eager, batches made on the CPU": Way(None, False, False),
        "PyTorch compiled": Way("default", True, True),
    }
    if device == "cuda":
        found["PyTorch compiled, CUDA graphs"] = Way("reduce-overhead", True, True)
    return found


class Loop:
    """Called with a number of steps, makes them and waits."""

    def __init__(
        self, config: ConfigDict, dataset: Dataset, device: str, way: Way, num_params: int
    ):
        """Args: num_params: what the network must have, or it is not the same."""
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32, as JAX computes by default
        self._config, self._device = config, device
        self._data_device = device if way.data_on_device else "cpu"
        self._layout = torch.channels_last if way.channels_last else torch.contiguous_format
        self._images = torch.from_numpy(dataset.train.inputs).to(self._data_device)
        self._labels = torch.from_numpy(dataset.train.labels).long().to(self._data_device)
        self._order, self._place = torch.empty(0, dtype=torch.long), 0
        self._mean = torch.tensor(config.data.mean, device=self._data_device)
        self._std = torch.tensor(config.data.std, device=self._data_device)
        self._net = resnet(config.model.name, dataset.num_classes)
        assert sum(weight.numel() for weight in self._net.parameters()) == num_params
        self._net.to(device=device, memory_format=self._layout)
        compiled = _compiled(way.mode)
        self._score = compiled(self._augment_and_score)
        # Inductor's C++ (torch 2.13) fails on the update, which is a small part of a step there.
        update = compiled(_update) if device == "cuda" else _update
        self._optimizer = CentralizedSGD(list(self._net.parameters()), config, update)
        self._steps, self._sums = 0, torch.zeros(2, device=device)
        self.figures: list[float] = []

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            torch.compiler.cudagraph_mark_step_begin()
            loss, correct = self._score(*self._next_batch())
            loss.backward()
            self._optimizer.step()
            self._sums += torch.stack([loss.detach(), correct])
            self._steps += 1
            if self._steps % self._config.log_every_steps == 0:
                self.figures = (self._sums / self._config.log_every_steps).tolist()
                self._sums.zero_()
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """DeviceSplit in a new order in each epoch; what is left over is dropped."""
        size = self._config.data.batch_size
        if self._place + size > len(self._order):
            self._order = torch.randperm(len(self._labels), device=self._data_device)
            self._place = 0
        ids = self._order[self._place : self._place + size]
        self._place += size
        return self._images[ids], self._labels[ids]

    def _augment_and_score(self, images: torch.Tensor, labels: torch.Tensor):
        """Loss and number of right answers, of uint8 images (batch, height, width, channels)."""
        augmented = augment(images, self._config.data.pad, self._mean, self._std)
        inputs = augmented.permute(0, 3, 1, 2).contiguous(memory_format=self._layout)
        inputs, labels = inputs.to(self._device), labels.to(self._device)
        half = self._config.precision == "bfloat16"
        with torch.autocast(self._device, torch.bfloat16, enabled=half):
            logits = self._net(inputs)
        loss = functional.cross_entropy(logits.float(), labels)
        return loss, (logits.argmax(1) == labels).sum().float()


def augment(images: torch.Tensor, pad: int, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Random crops from `pad` pixels of black, flips, normalized: uint8 in, float32 out."""
    count, height, width, _ = images.shape
    device = images.device
    padded = functional.pad(images, (0, 0, pad, pad, pad, pad))
    top, left = torch.randint(0, 2 * pad + 1, (2, count, 1), device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    flip = torch.rand(count, 1, device=device) < 0.5
    columns = left + torch.where(flip, width - 1 - columns, columns)
    rows = top + torch.arange(height, device=device)
    each = torch.arange(count, device=device)[:, None, None]
    return (padded[each, rows[:, :, None], columns[:, None, :]].float() / 255 - mean) / std


class CentralizedSGD:
    """SGD with momentum, L2 and GC, weight by weight as the authors' SGD_GC has it."""

    def __init__(
        self, weights: list[torch.Tensor], config: ConfigDict, update: Callable[..., None]
    ):
        settings = config.optimizer
        self._weights = weights
        self._buffers = [torch.zeros_like(weight) for weight in weights]
        self._numbers = settings.learning_rate, settings.momentum, settings.weight_decay
        self._update = update
        for tensor in (*self._weights, *self._buffers):
            torch._dynamo.mark_static_address(tensor)  # CUDA graphs then change it where it lies

    @torch.no_grad()
    def step(self) -> None:
        """Moves the weights, and forgets the gradients."""
        gradients = [weight.grad for weight in self._weights]
        self._update(self._weights, gradients, self._buffers, *self._numbers)
        for weight in self._weights:
            weight.grad = None


def _update(weights, gradients, buffers, rate: float, momentum: float, decay: float) -> None:
    for weight, gradient, buffer in zip(weights, gradients, buffers, strict=True):
        g = gradient.add(weight, alpha=decay)
        if g.ndim > 1:
            g.add_(-g.mean(tuple(range(1, g.ndim)), keepdim=True))
        buffer.mul_(momentum).add_(g)
        weight.add_(buffer, alpha=-rate)


def _compiled(mode: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def as_asked(function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, mode=mode, dynamic=False) if mode else function

    return as_asked


# The network: that of `train.models.resnet`


def resnet(name: str, num_classes: int) -> nn.Module:
    """The ResNet of that name, with a 3x3 stem and no max pool."""
    sizes, widths = {
        "resnet20": ((3, 3, 3), (16, 32, 64)),
        "resnet18": ((2, 2, 2, 2), (64, 128, 256, 512)),
    }[name]
    layers: list[nn.Module] = [*_conv_norm(3, widths[0], 3), nn.ReLU(inplace=True)]
    features = widths[0]
    for stage, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        for index in range(size):
            layers.append(Block(features, width, 2 if stage and not index else 1))
            features = width
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, num_classes)]
    return nn.Sequential(*layers, *pool)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, features: int, width: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            *_conv_norm(features, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv_norm(width, width, 3),
        )
        same = features == width and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _conv_norm(features, width, 1, stride)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.branch(x) + self.shortcut(x), inplace=True)


def _conv_norm(features: int, width: int, window: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(features, width, window, stride, window // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(width)]
