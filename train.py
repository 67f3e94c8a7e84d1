"""The same as `pgvae train`, from a checkout."""

from pgvae.cli import main

main(command="train")
