"""The same as `pgvae generate`, from a checkout."""

from pgvae.cli import main

main(command="generate")
