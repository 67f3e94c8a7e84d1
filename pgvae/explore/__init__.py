"""`pgvae explore`: a page to play with a model, in a browser of this machine.

The page is plain HTML, CSS and JavaScript beside these modules; nothing comes from a network.
Serving it needs the packages of the extra `explore`: importing this without them raises
InputError.
"""

from pgvae.errors import InputError

try:
    from pgvae.explore.app import make_app
    from pgvae.explore.explorer import Explorer
    from pgvae.explore.server import serve
except ModuleNotFoundError as error:
    raise InputError(
        f"the page needs the package {error.name}: pip install 'pgvae[explore]'"
    ) from error

__all__ = ["Explorer", "make_app", "serve"]
