"""A ResNet in PyTorch with torchvision's names, to compare the trainer's ResNets with."""

from torch import nn


class ResNet(nn.Module):
    """The network for ImageNet: 7x7 convolution, max pool, four stages, mean, `fc`."""

    def __init__(self, stage_sizes, bottleneck, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        features = 64
        for stage, size in enumerate(stage_sizes):
            width, blocks = 64 * 2**stage, []
            for index in range(size):
                stride = 2 if stage and not index else 1
                blocks.append(Block(features, width, stride, bottleneck))
                features = width * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    """A basic block or a bottleneck; in a bottleneck, the 3x3 convolution has the stride."""

    def __init__(self, features, width, stride, bottleneck):
        super().__init__()
        windows = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        out = width * 4 if bottleneck else width
        widths = [features, *[width] * (len(windows) - 1), out]
        for number, (window, step) in enumerate(windows, 1):
            before, after = widths[number - 1 : number + 1]
            kernel = nn.Conv2d(before, after, window, step, padding=window // 2, bias=False)
            setattr(self, f"conv{number}", kernel)
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
        self.depth = len(windows)
        if stride != 1 or features != out:
            kernel = nn.Conv2d(features, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(kernel, nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = y.relu() if number < self.depth else y
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return (y + shortcut).relu()
