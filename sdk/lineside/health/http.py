"""What is answered to a request, by the bytes that came; pure. Two paths, one method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from lineside.health.exposition import CONTENT_TYPE

REQUEST_LIMIT_BYTES: Final = 8192
_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.[0-9]")
_WORDS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_PLAIN: Final = "text/plain; charset=utf-8"


class Answers(Protocol):
    """What stands behind the two paths; must not wait."""

    def metrics(self) -> str: ...
    def trouble(self) -> str: ...


def answer_to(request: bytes, answers: Answers) -> bytes | None:
    """The whole response, or ``None`` while the request is not complete.

    Every response ends its connection, so a body that follows the request is never read.
    """
    head, end, _ = request.partition(b"\r\n\r\n")
    if len(head) > REQUEST_LIMIT_BYTES or (not end and len(request) > REQUEST_LIMIT_BYTES):
        return _response(431, "the request is too long\n")
    if not end:
        return None
    found = _LINE.fullmatch(head.split(b"\r\n", 1)[0])
    if found is None:
        return _response(400, "no HTTP/1 request\n")
    method, path = found[1], found[2].split(b"?", 1)[0]
    if path not in (b"/metrics", b"/healthz"):
        return _response(404, "there are /metrics and /healthz\n")
    if method != b"GET":
        return _response(405, "only GET\n", {"Allow": "GET"})
    if path == b"/metrics":
        return _response(200, answers.metrics(), kind=CONTENT_TYPE)
    trouble = answers.trouble()
    return _response(503, f"{trouble}\n") if trouble else _response(200, "ok\n")


def _response(
    code: int, body: str, headers: Mapping[str, str] | None = None, *, kind: str = _PLAIN
) -> bytes:
    data = body.encode("utf-8", "replace")
    lines = [
        f"HTTP/1.1 {code} {_WORDS[code]}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(data)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + data
