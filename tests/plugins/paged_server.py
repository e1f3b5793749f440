"""A stock server that knows the pages of group 76 besides: the least that a client may meet."""

from __future__ import annotations

import struct
from typing import Any

import cbor2
from smp_responder import StockServer

from lineside_bridge import custom
from lineside_bridge.custom import Code, Command
from lineside_bridge.header import unpack_header
from lineside_bridge.message import Failure, encode_answer, encode_refusal
from lineside_bridge.pages import hash_pages

_HEADER = struct.Struct(">BBHHBB")


class PagedServer(StockServer):
    """With a bundle in slot 0.

    Args:
        held: what lies there.
        framings: that it offers, best first.
    """

    def __init__(self, *, held: bytes, framings: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.held = held
        self.framings = framings
        self.chosen = ""

    def answer(self, request: bytes) -> bytes:
        """See `StockServer`."""
        header = unpack_header(request)
        if header.group != custom.GROUP:
            return super().answer(request)
        body = cbor2.loads(request[8:])
        kind = {
            Command.PAGES: self._pages,
            Command.WRITE: self._write,
            Command.COPY: self._copy,
            Command.LINK: self._link,
        }.get(Command(header.command))
        if kind is None:
            return encode_refusal(header, Failure(group=None, code=8))
        found = kind(body)
        if isinstance(found, Code):
            return encode_refusal(header, Failure(group=custom.GROUP, code=found))
        return encode_answer(header, found)

    def _link(self, body: dict[str, Any]) -> Any:
        self.chosen = body.get("framing", "")
        return {"framings": list(self.framings)}

    def _pages(self, body: dict[str, Any]) -> Any:
        hashes = hash_pages(self.held)
        chosen = hashes[body["first"] : body["first"] + min(body["count"], 9)]
        return {"first": body["first"], "total": len(hashes), "hashes": b"".join(chosen)}

    def _write(self, body: dict[str, Any]) -> Any:
        if body["crc"] != custom.checksum(body["off"], body["data"]):
            return Code.CHECKSUM
        if body["off"] == len(self.uploaded):
            self.uploaded += body["data"]
        return {"off": len(self.uploaded)}

    def _copy(self, body: dict[str, Any]) -> Any:
        data = self.held[body["from"] : body["from"] + body["len"]]
        if body["crc"] != custom.checksum(body["off"], data):
            return Code.CHECKSUM
        if body["off"] == len(self.uploaded):
            self.uploaded += data
        return {"off": len(self.uploaded)}
