"""Measures of images; they never see a network that made them. `table` has them all by name."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgvae.metrics.frechet import fid, kid
    from pgvae.metrics.multiscale import msssim
    from pgvae.metrics.reconstruction import mse, psnr, rmse, ssim
    from pgvae.metrics.sliced import swd

__all__ = ["fid", "kid", "mse", "msssim", "psnr", "rmse", "ssim", "swd"]

_HOMES = {"fid": "frechet", "kid": "frechet", "msssim": "multiscale", "swd": "sliced"}


def __getattr__(name: str) -> Any:
    """Import on first use: the table can be read without PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module 'pgvae.metrics' has no attribute {name!r}")
    home = importlib.import_module(f"pgvae.metrics.{_HOMES.get(name, 'reconstruction')}")
    return getattr(home, name)
