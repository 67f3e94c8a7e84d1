"""An application asked without a server: one request at a time, of any headers and parts."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to localhost, as its own page does."""

    def __init__(self, app) -> None:
        self._app = app

    def __enter__(self) -> "Client":
        self._runner = asyncio.Runner()
        return self

    def __exit__(self, *_) -> None:
        self._runner.close()

    def ask(self, name: str, **asked: Any) -> Answer:
        return self.send(f"/api/{name}", [json.dumps(asked).encode()])

    def get(self, path: str, query: str = "", **headers: str) -> Answer:
        return self.send(path, method="GET", query=query, **headers)

    def send(
        self,
        path: str,
        parts: Sequence[bytes] = (),
        *,
        method: str = "POST",
        query: str = "",
        ends: bool = True,
        **headers: str,
    ) -> Answer:
        """The answer to a request in parts; where it never `ends`, more is waited for in vain."""
        return self._runner.run(self._send(path, parts, method, query, ends, headers))

    async def _send(self, path, parts, method, query, ends, headers) -> Answer:
        headers = {"host": "localhost:8000", **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
            "server": ("localhost", 8000),
            "client": ("127.0.0.1", 1),
        }
        coming = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if ends:
            coming.append({"type": "http.request", "body": b"", "more_body": False})
        sent: list[dict] = []

        async def receive() -> dict:
            if coming:
                return coming.pop(0)
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(m["body"] for m in sent[1:]))
