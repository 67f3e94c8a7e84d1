"""`python -m pgvae`: the same as `pgvae`."""

from pgvae.cli import main

if __name__ == "__main__":  # worker processes import this file again
    main()
