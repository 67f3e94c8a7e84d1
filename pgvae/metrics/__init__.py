"""Measures of images; they never see a network that made them."""

from pgvae.metrics.frechet import fid, kid
from pgvae.metrics.msssim import msssim
from pgvae.metrics.reconstruction import mse, psnr, rmse, ssim
from pgvae.metrics.swd import swd

__all__ = ["fid", "kid", "mse", "msssim", "psnr", "rmse", "ssim", "swd"]
