"""The FID Inception as one plain function of a state dict, to compare the modules with.

Written from the tables of Szegedy et al. (2016), figures 5 to 7 and 10, and TensorFlow's names.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def conv(x: Tensor, state: State, name: str, stride: int = 1, padding=0) -> Tensor:
    x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
    mean, var, gain, bias = (
        state[f"{name}.bn.{part}"].view(1, -1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / torch.sqrt(var + 0.001) * gain + bias).clamp(min=0)


def mean3(x: Tensor) -> Tensor:
    """Means of the 3x3 neighbours that there are."""
    ones = torch.ones_like(x[:1, :1])
    total, number = (F.avg_pool2d(F.pad(y, (1, 1, 1, 1)), 3, stride=1) for y in (x, ones))
    return total / number


def max3(x: Tensor) -> Tensor:
    """Maxima of the 3x3 neighbours that there are."""
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, stride=1)


def block_a(x: Tensor, s: State, n: str) -> Tensor:
    double = conv(conv(x, s, f"{n}.branch3x3dbl_1"), s, f"{n}.branch3x3dbl_2", padding=1)
    parts = [
        conv(x, s, f"{n}.branch1x1"),
        conv(conv(x, s, f"{n}.branch5x5_1"), s, f"{n}.branch5x5_2", padding=2),
        conv(double, s, f"{n}.branch3x3dbl_3", padding=1),
        conv(mean3(x), s, f"{n}.branch_pool"),
    ]
    return torch.cat(parts, 1)


def block_b(x: Tensor, s: State, n: str) -> Tensor:
    double = conv(conv(x, s, f"{n}.branch3x3dbl_1"), s, f"{n}.branch3x3dbl_2", padding=1)
    parts = [
        conv(x, s, f"{n}.branch3x3", stride=2),
        conv(double, s, f"{n}.branch3x3dbl_3", stride=2),
        F.max_pool2d(x, 3, 2),
    ]
    return torch.cat(parts, 1)


def block_c(x: Tensor, s: State, n: str) -> Tensor:
    single = conv(x, s, f"{n}.branch7x7_1")
    single = conv(single, s, f"{n}.branch7x7_2", padding=(0, 3))
    single = conv(single, s, f"{n}.branch7x7_3", padding=(3, 0))
    double = conv(x, s, f"{n}.branch7x7dbl_1")
    for number, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
        double = conv(double, s, f"{n}.branch7x7dbl_{number}", padding=padding)
    pooled = conv(mean3(x), s, f"{n}.branch_pool")
    return torch.cat([conv(x, s, f"{n}.branch1x1"), single, double, pooled], 1)


def block_d(x: Tensor, s: State, n: str) -> Tensor:
    long = conv(x, s, f"{n}.branch7x7x3_1")
    long = conv(long, s, f"{n}.branch7x7x3_2", padding=(0, 3))
    long = conv(long, s, f"{n}.branch7x7x3_3", padding=(3, 0))
    parts = [
        conv(conv(x, s, f"{n}.branch3x3_1"), s, f"{n}.branch3x3_2", stride=2),
        conv(long, s, f"{n}.branch7x7x3_4", stride=2),
        F.max_pool2d(x, 3, 2),
    ]
    return torch.cat(parts, 1)


def block_e(x: Tensor, s: State, n: str) -> Tensor:
    """Mixed_7b pools by mean, Mixed_7c by maximum."""
    single = conv(x, s, f"{n}.branch3x3_1")
    double = conv(conv(x, s, f"{n}.branch3x3dbl_1"), s, f"{n}.branch3x3dbl_2", padding=1)
    pooled = mean3(x) if n == "Mixed_7b" else max3(x)
    parts = [
        conv(x, s, f"{n}.branch1x1"),
        conv(single, s, f"{n}.branch3x3_2a", padding=(0, 1)),
        conv(single, s, f"{n}.branch3x3_2b", padding=(1, 0)),
        conv(double, s, f"{n}.branch3x3dbl_3a", padding=(0, 1)),
        conv(double, s, f"{n}.branch3x3dbl_3b", padding=(1, 0)),
        conv(pooled, s, f"{n}.branch_pool"),
    ]
    return torch.cat(parts, 1)


BLOCKS = {
    "Mixed_5b": block_a,
    "Mixed_5c": block_a,
    "Mixed_5d": block_a,
    "Mixed_6a": block_b,
    "Mixed_6b": block_c,
    "Mixed_6c": block_c,
    "Mixed_6d": block_c,
    "Mixed_6e": block_c,
    "Mixed_7a": block_d,
    "Mixed_7b": block_e,
    "Mixed_7c": block_e,
}


def features(x: Tensor, s: State) -> Tensor:
    """[N, 3, R, R] -> [N, 2048]."""
    x = conv(x, s, "Conv2d_1a_3x3", stride=2)
    x = conv(conv(x, s, "Conv2d_2a_3x3"), s, "Conv2d_2b_3x3", padding=1)
    x = conv(F.max_pool2d(x, 3, 2), s, "Conv2d_3b_1x1")
    x = F.max_pool2d(conv(x, s, "Conv2d_4a_3x3"), 3, 2)
    for name, block in BLOCKS.items():
        x = block(x, s, name)
    return x.mean(dim=(2, 3))
