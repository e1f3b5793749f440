"""A sensor of ours whose answers are changed before they leave: firmware that lies or falls silent.

The sensor, its flash and its rules are the real ones; what a test changes is the answer's body.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from sensor_rig import Rig
from smp_responder import Responder

from lineside_bridge.body import Body, encode_body
from lineside_bridge.framing import Framing
from lineside_bridge.header import Header, pack_header
from lineside_bridge.message import decode_message
from lineside_bridge.sensor import make_server

Change = Callable[[Header, Body], Body | None]
"""An answer's header and body to the body that leaves; ``None``: the answer is lost."""


@contextlib.contextmanager
def lying(rig: Rig, change: Change) -> Iterator[str]:
    """Yields its port, on which it speaks the console framing."""
    rig.start()
    server = make_server(rig.sensor, framings=(Framing.RAW,))

    def answer(request: bytes) -> bytes | None:
        (reply,) = server.feed(request)
        message = decode_message(reply.frame)
        body = change(message.header, message.body)
        reply.then()
        if body is None:
            return None
        payload = encode_body(body)
        return pack_header(replace(message.header, length=len(payload))) + payload

    with Responder(answer) as sensor:
        yield sensor.port
