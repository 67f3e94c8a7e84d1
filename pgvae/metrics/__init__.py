"""Measures of images; they never see a network."""

from pgvae.metrics.reconstruction import psnr, rmse

__all__ = ["psnr", "rmse"]
