"""`pgvae report`: one HTML page about a run, from the files in its directory alone."""

from pgvae.report.grids import Interpolation
from pgvae.report.page import SNAPSHOTS, write_report

__all__ = ["SNAPSHOTS", "Interpolation", "write_report"]
