"""`python -m pgvae.cli`: the same as `pgvae`."""

from pgvae.cli import main

main()
