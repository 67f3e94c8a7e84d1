"""The same as `pgvae generate`, from a checkout."""

from pgvae.cli import main

if __name__ == "__main__":  # worker processes import this file again
    main(command="generate")
