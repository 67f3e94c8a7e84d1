"""A page about a model, served until it is stopped."""

import asyncio
import contextlib
import logging
import secrets
import socket
import webbrowser
from collections.abc import Callable

import uvicorn

from pgvae.errors import InputError
from pgvae.explore.app import Lane, make_app
from pgvae.explore.explorer import Explorer
from pgvae.explore.guard import is_local

HERE = "127.0.0.1"


def serve(
    explorer: Explorer,
    host: str = HERE,
    port: int = 8000,
    *,
    open_browser: bool = False,
    say: Callable[[str], None] = print,
) -> bool:
    """Serve until Ctrl-C or SIGTERM; says the address, with a token where others can reach it.

    port: 0 for any that is free. -> whether pictures are still being made, which nobody waits for
    any more. InputError where the address is taken or not of this machine.
    """
    lanes = Lane(), Lane()
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    token = None if is_local(f"[{host}]") else secrets.token_urlsafe(16)
    with listening(host, port) as own:
        place = f"[{host}]" if own.family == socket.AF_INET6 else host
        address = f"http://{place}:{own.getsockname()[1]}/" + (f"?token={token}" if token else "")
        config = uvicorn.Config(
            make_app(explorer, token, lanes=lanes),
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=1,
        )
        say(f"{address}  (Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(address)  # which waits until the server answers
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[own])
    return any(lane.busy for lane in lanes)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; InputError where it cannot.

    Its connections send at once: an answer's body does not wait, 40 ms, until its head has come.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.create_server((host, port), family=family)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on {host}, port {port}: {why}; give another --port or --host"
        ) from error


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a record is of a bug. What was cut short by the end is none."""
    error = record.exc_info and record.exc_info[1]
    return error is not None and not isinstance(error, asyncio.CancelledError)
