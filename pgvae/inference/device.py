"""Where a model runs."""

import torch

from pgvae.checks import require

_KNOWN = ("cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda[:i]" or "mps"; InputError where it is not here.

    And where torch makes tensors elsewhere than on the CPU by itself, as numbers are drawn there.
    "auto" is CUDA where there is some, else the CPU.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    require(
        torch.get_default_device().type == "cpu",
        f"torch.set_default_device({str(torch.get_default_device())!r}) is in force: take it back, "
        "and give the device to pgvae, as in load(path, device=...)",
    )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    require(device.type in _KNOWN, f"unknown device {name!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        require(
            (device.index or 0) < count,
            f"device {name} is not here: torch {torch.__version__} sees {count} CUDA devices; "
            "use --device cpu",
        )
    require(
        device.type != "mps" or torch.backends.mps.is_available(),
        f"device {name} is not here: torch {torch.__version__} finds no GPU of Apple's; "
        "use --device cpu",
    )
    return device
