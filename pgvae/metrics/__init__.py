"""Measures of images; they never see a network."""

from pgvae.metrics.reconstruction import psnr, rmse
from pgvae.metrics.swd import swd

__all__ = ["psnr", "rmse", "swd"]
