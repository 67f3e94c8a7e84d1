"""The page's server: its files, the routes of what it asks, and how long and large that may be."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pgvae.errors import InputError, PgvaeError, one_line
from pgvae.explore.answers import Answers
from pgvae.explore.explorer import Explorer
from pgvae.explore.guard import Guard
from pgvae.explore.uploads import MOST_BYTES, Forgotten
from pgvae.files import path_of
from pgvae.terminal import say

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_MOST_JSON = 1 << 18
_SECONDS = 30.0
_SLOW = ("between", "walk", "ends", "nearest", "save")  # what does not hold up a slider


class Lane:
    """One piece of work at a time, in a thread of its own, for those who still wait for it."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1)
        self.busy = False

    async def run(self, request: Request, work: Callable[[], Any]) -> Response:
        """What the work gives, as JSON where it is no response."""
        async with self._turn:
            if await request.is_disconnected():
                return Response(status_code=499)
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        return found if isinstance(found, Response) else JSONResponse(found)

    def _do(self, work: Callable[[], Any]) -> Any:
        self.busy = True
        try:
            return work()
        finally:
            self.busy = False


def make_app(
    explorer: Explorer,
    token: str | None = None,
    seconds: float = _SECONDS,
    lanes: tuple[Lane, Lane] | None = None,
) -> Guard:
    """The application (ASGI) of a page about a model.

    token: as of `Guard`. seconds: in which the whole of a request must have come. lanes: for what
    is quick, and for what is not.
    """
    (quick, slow), answers = lanes or (Lane(), Lane()), Answers(explorer)

    def answer(name: str) -> Route:
        async def handle(request: Request) -> Response:
            asked = _object(await _body(request, _MOST_JSON, seconds))
            lane = slow if name in _SLOW else quick
            return await lane.run(request, lambda: getattr(answers, name)(asked))

        return Route(f"/api/{name}", handle, methods=["POST"])

    async def upload(request: Request) -> Response:
        data = await _body(request, MOST_BYTES, seconds)
        return await quick.run(request, lambda: answers.upload(data))

    routes = [*_files(), *map(answer, Answers.NAMES)]
    routes.append(Route("/api/images", upload, methods=["POST"]))
    handlers: dict[Any, Any] = {PgvaeError: _refused, OSError: _lost, HTTPException: _no_such}
    handlers |= {ClientDisconnect: _left, 500: _fault}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token)


def _files() -> list[Route]:
    """A route for each file of the page, which are read once: no path comes from a browser."""
    found = [file for file in sorted(Path(__file__).parent.iterdir()) if file.suffix in _KINDS]
    return [_file(f"/{'' if file.suffix == '.html' else file.name}", file) for file in found]


def _file(path: str, file: Path) -> Route:
    content, kind = file.read_bytes(), _KINDS[file.suffix]

    async def handle(_: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, handle)


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """What was sent; HTTPException 413 where it is too large, 408 where it takes too long."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise HTTPException(413, f"This is too large: {most >> 20 or 1} MiB at most.")
    except TimeoutError as error:
        raise HTTPException(408, f"This took longer than {seconds:g} s to arrive.") from error
    return b"".join(parts)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError("the request is not JSON") from error
    if not isinstance(found, dict):
        raise InputError("the request is not an object of JSON")
    return found


async def _refused(_: Request, error: PgvaeError) -> Response:
    code = 410 if isinstance(error, Forgotten) else 400
    return JSONResponse({"error": sentence(str(error))}, code)


async def _lost(_: Request, error: OSError) -> Response:
    """A file that the page is of went away while it is open."""
    said = f"{path_of(error) or 'a file'} cannot be read ({one_line(error)}): bring it back"
    say(f"error: {said}")
    return JSONResponse({"error": sentence(said)}, 503)


async def _no_such(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": sentence(error.detail)}, error.status_code)


async def _left(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _fault(_: Request, __: Exception) -> Response:
    """A bug: its traceback goes to the terminal."""
    said = "Something went wrong in the server: its terminal says what."
    return JSONResponse({"error": said}, 500)


def sentence(message: str) -> str:
    """A message as one sentence or more, on one line.

    >>> sentence("truncation is 2: use a number up to 1")
    'Truncation is 2: use a number up to 1.'
    >>> sentence("datasets/mine is gone")
    'datasets/mine is gone.'
    """
    text = " ".join(message.split())
    word = text.partition(" ")[0].rstrip(":,;")  # as it is where it is a path
    start = text[:1].upper() if word.isalpha() else text[:1]
    return start + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
