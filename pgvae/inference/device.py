"""Where a model runs."""

import torch

from pgvae.config import require


def pick_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda[:i]"; InputError where it is not here.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    require(device is not None and device.type in ("cpu", "cuda"), f"unknown device {name!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        require(
            (device.index or 0) < count,
            f"device {name} is not here: torch {torch.__version__} sees {count} CUDA devices; "
            "use --device cpu",
        )
    return device
