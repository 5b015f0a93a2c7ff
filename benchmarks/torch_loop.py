"""The trainer's training loop in PyTorch: as in the authors' code, and as fast as possible."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

from train.data.dataset import Dataset


class Settings(NamedTuple):
    """How a loop is written.

    Attributes:
      compile_mode: The mode of `torch.compile`; None for eager execution.
      channels_last: Whether images and weights have the memory format channels_last.
      data_on_device: Whether batches are gathered and augmented on the device and not on the CPU.
    """

    compile_mode: str | None
    channels_last: bool
    data_on_device: bool


def variants(device: str) -> dict[str, Settings]:
    """Return the loops to measure on "cpu" or "cuda", by name."""
    loops = {
        "PyTorch eager, batches made on the CPU": Settings(None, False, False),
        "PyTorch compiled": Settings("default", True, True),
    }
    if device == "cuda":
        loops["PyTorch compiled, CUDA graphs"] = Settings("reduce-overhead", True, True)
    return loops


class Loop:
    """Training in PyTorch; a call makes a number of steps and waits.

    Attributes:
      log_line: The mean loss and accuracy at the last log step.
    """

    def __init__(
        self,
        config: ConfigDict,
        dataset: Dataset,
        device: str,
        settings: Settings,
        num_params: int,
    ):
        """Args: num_params: The number of parameters that the network must have."""
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32, as JAX by default
        self._config, self._device = config, device
        self._data_device = device if settings.data_on_device else "cpu"
        self._memory_format = (
            torch.channels_last if settings.channels_last else torch.contiguous_format
        )
        self._images = torch.from_numpy(dataset.train.inputs).to(self._data_device)
        self._labels = torch.from_numpy(dataset.train.labels).long().to(self._data_device)
        self._order, self._offset = torch.empty(0, dtype=torch.long), 0
        self._mean = torch.tensor(config.data.mean, device=self._data_device)
        self._std = torch.tensor(config.data.std, device=self._data_device)
        self._net = resnet(config.model.name, dataset.num_classes)
        assert sum(weight.numel() for weight in self._net.parameters()) == num_params
        self._net.to(device=device, memory_format=self._memory_format)
        compile_ = _compiler(settings.compile_mode)
        self._loss_and_correct = compile_(self._augment_and_score)
        # On a CPU, Inductor (torch 2.13) fails on the update, which is a small part of a step.
        update = compile_(_update) if device == "cuda" else _update
        self._optimizer = CentralizedSGD(list(self._net.parameters()), config, update)
        self._step, self._sums = 0, torch.zeros(2, device=device)
        self.log_line: list[float] = []

    def __call__(self, num_steps: int) -> None:
        for _ in range(num_steps):
            torch.compiler.cudagraph_mark_step_begin()
            loss, correct = self._loss_and_correct(*self._next_batch())
            loss.backward()
            self._optimizer.step()
            self._sums += torch.stack([loss.detach(), correct])
            self._step += 1
            if self._step % self._config.log_every_steps == 0:
                self.log_line = (self._sums / self._config.log_every_steps).tolist()
                self._sums.zero_()
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next images and labels; each epoch has a new order and drops the remainder."""
        size = self._config.data.batch_size
        if self._offset + size > len(self._order):
            self._order = torch.randperm(len(self._labels), device=self._data_device)
            self._offset = 0
        ids = self._order[self._offset : self._offset + size]
        self._offset += size
        return self._images[ids], self._labels[ids]

    def _augment_and_score(self, images: torch.Tensor, labels: torch.Tensor):
        """Return the loss and the number of correct predictions.

        Args:
          images: uint8, (batch, height, width, channels).
          labels: int64, (batch,).
        """
        augmented = augment(images, self._config.data.pad, self._mean, self._std)
        inputs = augmented.permute(0, 3, 1, 2).contiguous(memory_format=self._memory_format)
        inputs, labels = inputs.to(self._device), labels.to(self._device)
        half = self._config.precision == "bfloat16"
        with torch.autocast(self._device, torch.bfloat16, enabled=half):
            logits = self._net(inputs)
        loss = functional.cross_entropy(logits.float(), labels)
        return loss, (logits.argmax(1) == labels).sum().float()


def augment(images: torch.Tensor, pad: int, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return random crops and flips of uint8 images, as standardized float32 images.

    Args:
      images: uint8, (batch, height, width, channels).
      pad: Black pixels around an image before the crop.
      mean: float32, (channels,); of pixels in 0..1.
      std: float32, (channels,).
    """
    count, height, width, _ = images.shape
    device = images.device
    padded = functional.pad(images, (0, 0, pad, pad, pad, pad))
    top, left = torch.randint(0, 2 * pad + 1, (2, count, 1), device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    flip = torch.rand(count, 1, device=device) < 0.5
    columns = left + torch.where(flip, width - 1 - columns, columns)
    rows = top + torch.arange(height, device=device)
    index = torch.arange(count, device=device)[:, None, None]
    return (padded[index, rows[:, :, None], columns[:, None, :]].float() / 255 - mean) / std


class CentralizedSGD:
    """SGD with momentum, L2 decay and GC, weight by weight, like SGD_GC of the authors."""

    def __init__(
        self, weights: list[torch.Tensor], config: ConfigDict, update: Callable[..., None]
    ):
        settings = config.optimizer
        self._weights = weights
        self._buffers = [torch.zeros_like(weight) for weight in weights]
        self._settings = settings.learning_rate, settings.momentum, settings.weight_decay
        self._update = update
        for tensor in (*self._weights, *self._buffers):
            torch._dynamo.mark_static_address(tensor)  # lets CUDA graphs update it in place

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights and clear their gradients."""
        grads = [weight.grad for weight in self._weights]
        self._update(self._weights, grads, self._buffers, *self._settings)
        for weight in self._weights:
            weight.grad = None


def _update(weights, grads, buffers, rate: float, momentum: float, decay: float) -> None:
    for weight, grad, buffer in zip(weights, grads, buffers, strict=True):
        g = grad.add(weight, alpha=decay)
        if g.ndim > 1:
            g.add_(-g.mean(tuple(range(1, g.ndim)), keepdim=True))
        buffer.mul_(momentum).add_(g)
        weight.add_(buffer, alpha=-rate)


def _compiler(mode: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, mode=mode, dynamic=False) if mode else function

    return compile_


def resnet(name: str, num_classes: int) -> nn.Module:
    """Return the same network as `train.models.resnet`, with a 3x3 stem and no max pooling."""
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
    """A residual block of two 3x3 convolutions."""

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
