"""The AlexNet of the ExpandNets paper, Appendix A.4."""

from torch import nn

__all__ = ["alexnet"]


def alexnet(*, channels: int = 256, num_classes: int = 1000, in_channels: int = 3) -> nn.Sequential:
    """Return an AlexNet: images [B, in_channels, H, W], 63 pixels a side or more, to logits.

    torchvision's features, then a global average pool and one linear layer instead of three.
    `channels` are those of conv5: 128, 256 (torchvision's) and 512 in the paper. The modules, in
    order: conv1, relu1, pool1, conv2, relu2, pool2, conv3, relu3, conv4, relu4, conv5, relu5,
    pool5, average, flatten, fc.
    """
    network = nn.Sequential()
    convolutions = [
        nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, channels, 3, padding=1),
    ]
    for i, convolution in enumerate(convolutions, start=1):
        network.add_module(f"conv{i}", convolution)
        network.add_module(f"relu{i}", nn.ReLU())
        if i in (1, 2, 5):
            network.add_module(f"pool{i}", nn.MaxPool2d(3, stride=2))
    network.add_module("average", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(channels, num_classes))
    return network
