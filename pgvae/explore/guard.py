"""Who may ask: what stands between the network and the page.

A page of another site can send requests to this machine's own addresses. It cannot choose their
Host or Origin, and where the page is open to a network it does not know the token.
"""

import ipaddress
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through to an application, or refuses them in one sentence.

    token: what each must have, in a cookie that the address with ?token=... sets; None: none is
           needed, and the Host must be a name of this machine alone.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and not is_local(host):
            return _no(421, f"This page is at localhost, not at {host[:80]!r}.")
        if origin is not None and origin.partition("://")[2] != host:
            return _no(403, f"Requests of another site, {origin[:80]!r}, are refused.")
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] != "GET":
            return _no(403, "Requests of another site are refused.")
        return self._without_token(scope, headers) if self._token else None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        name = f"pgvae-{scope['server'][1]}"  # cookies do not tell ports apart
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and self._is_token(given):
            answer = RedirectResponse("/", 303)  # out of the address bar, and of its history
            answer.set_cookie(name, self._token, httponly=True, samesite="strict")
            return answer
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(name)
        except CookieError:
            cookie = None
        if cookie is None or not self._is_token(cookie.value):
            return _no(403, "Open the address that `pgvae explore` printed: it has a token.")
        return None

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())


def is_local(host: str) -> bool:
    """Whether a Host header names this machine alone, at any port.

    >>> [is_local(host) for host in ("localhost:9000", "127.0.0.1", "[::1]:80", "evil.example")]
    [True, True, True, False]
    """
    name = re.sub(r":\d+$", "", host).strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _no(code: int, sentence: str) -> Response:
    return PlainTextResponse(sentence, code)
