"""`pgvae report`: one HTML page about a run, from the files in its directory alone.

All of it needs the packages of the extra `report`: importing it without them raises InputError.
"""

from pgvae.errors import InputError

try:
    from pgvae.report.page import write_report
except ImportError as error:
    raise InputError(
        f"a report needs the package {error.name}: pip install 'pgvae[report]'"
    ) from error

__all__ = ["write_report"]
