"""What a sensor on a line can do: its framing, its buffer, its window, and the highest rate."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Final

from lineside.errors import ConfigurationError
from lineside_bridge import custom, requests
from lineside_bridge.body import Body
from lineside_bridge.client import ONCE, Client, Patience
from lineside_bridge.custom import Command, LinkChange, LinkOffer
from lineside_bridge.errors import (
    BridgeError,
    MalformedError,
    PortError,
    SensorGarbledError,
    SensorRefusedError,
    SensorSilentError,
)
from lineside_bridge.framing import Framing, encode_frame, message_room_bytes
from lineside_bridge.header import Operation
from lineside_bridge.link import Link, wire_s
from lineside_bridge.message import Request

WINDOW_LIMIT: Final = 8
# What old firmware has at least: one line of the console; and what most of it has.
_SMALLEST_BUFFER_BYTES: Final = 96
_USUAL_BUFFER_BYTES: Final = 256
_LARGEST_BUFFER_BYTES: Final = 16_384
# What the last carries less than the first costs nothing against bytes that nobody guards.
_BEST_FIRST: Final = (Framing.COBS, Framing.CONSOLE, Framing.RAW)
_HELLO: Final = Patience(answer_s=0.5, attempts=2)
_HELD_ECHOES: Final = 8
# More are not tried: each that does not hold costs seconds.
_MOST_BAUDS: Final = 8
_TRIED_MS: Final = 2_000
_HELD_MS: Final = 10_000
_SETTLE_S: Final = 0.05
_ECHO_AROUND_BYTES: Final = 16
# An offset beyond 64 KiB, where nearly all of a bundle lies.
_FAR: Final = 1 << 20
_LENGTH_BYTES: Final = 2
_UNANSWERED: Final = (SensorSilentError, SensorGarbledError)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A sensor as it was found.

    Attributes:
        buffer_bytes: the longest message it takes, header and all, before framing.
        window: requests that it can hold at a time; 1: each waits for the answer before.
        offer: what its custom group says of the line; ``None``: it has no such group.
    """

    framing: Framing
    buffer_bytes: int
    window: int
    offer: LinkOffer | None

    @property
    def room_bytes(self) -> int:
        """For one message, header and body."""
        return message_room_bytes(self.framing, self.buffer_bytes)


def find_sensor(
    link: Link, framing: Framing | None = None, *, patience: Patience | None = None
) -> tuple[Client, Peer]:
    """Say hello until somebody answers.

    Args:
        framing: the one to use; ``None``: whichever is answered, and then the best of those that
            the sensor offers.
        patience: for each framing; ``None``: 1.5 s in two attempts.

    Raises:
        SensorSilentError, SensorGarbledError: nobody answers in any framing.
        PortError: the port went away.
    """
    patience = patience or _HELLO
    if framing is not None:
        # A server that was spoken to in another framing listens for others after a second.
        patience = replace(patience, attempts=patience.attempts + 1)
    client, answer = _say_hello(link, framing, patience)
    offer = _ask_for_offer(client)
    if framing is None and offer is not None:
        client = _take_best(client, offer, patience)
    buffer_bytes, window = _measure(client, answer)
    client.buffer_bytes = buffer_bytes
    return client, Peer(
        framing=client.framing, buffer_bytes=buffer_bytes, window=window, offer=offer
    )


def find_baud(client: Client, peer: Peer) -> int:
    """Change to the highest rate that holds, of those that the sensor offers.

    A rate holds when full buffers come back whole. The sensor goes back by itself from one that
    does not; in the end the line is as it was, or faster.

    Returns:
        The rate of now.

    Raises:
        ConfigurationError: it offers no rates.
        SensorSilentError, SensorGarbledError: it did not come back to the rate before.
    """
    link = client.link
    if peer.offer is None or not peer.offer.bauds:
        raise ConfigurationError(
            f"{link.name}: this sensor offers no other rates: go without --find-baud, and set the "
            "rate of its firmware with --baud",
            path="find-baud",
        )
    for baud in sorted(set(peer.offer.bauds), reverse=True)[:_MOST_BAUDS]:
        if baud <= link.baud:
            break
        if _try_baud(client, peer, baud):
            break
    return link.baud


def give_back(client: Client, baud: int) -> None:
    """Let the sensor go back to that rate at once, so that the next one finds it; or later."""
    with contextlib.suppress(SensorRefusedError, *_UNANSWERED):
        client.call(_change(baud=baud, hold_ms=_TRIED_MS), ONCE)


def ceiling_bytes_per_s(peer: Peer, baud: int) -> float | None:
    """What of a file can pass in a second at most; ``None``: the line has no rate."""
    # USB and pseudo-terminals take any rate and keep none; a sensor on one offers none.
    if not baud or (peer.offer is not None and not peer.offer.baud):
        return None
    data = bytes(peer.room_bytes - requests.go_on_uploading(_FAR, b"").size_bytes - _LENGTH_BYTES)
    line = encode_frame(peer.framing, requests.go_on_uploading(_FAR, data).message(0))
    return len(data) / wire_s(len(line), baud)


def _say_hello(
    link: Link, framing: Framing | None, patience: Patience
) -> tuple[Client, Body | None]:
    link.clear()
    faults: list[BridgeError] = []
    for candidate in (framing,) if framing else tuple(Framing):
        client = Client(link, candidate, buffer_bytes=_USUAL_BUFFER_BYTES)
        client.resync()
        try:
            return client, client.call(requests.read_parameters(), patience)
        except SensorRefusedError:
            return client, None
        except _UNANSWERED as fault:
            faults.append(fault)
    # The console's: most sensors speak it. One that was heard says more than one that was not.
    raise next((fault for fault in faults if isinstance(fault, SensorGarbledError)), faults[0])


def _ask_for_offer(client: Client) -> LinkOffer | None:
    try:
        body = client.call(custom.ask(Operation.READ, Command.LINK), _HELLO)
        return custom.decode(body, LinkOffer)
    except (SensorRefusedError, MalformedError, *_UNANSWERED):
        return None


def _take_best(client: Client, offer: LinkOffer, patience: Patience) -> Client:
    """The first of ours that is offered and answered; else the one that was."""
    for word in (kind.value for kind in _BEST_FIRST if kind.value in offer.framings):
        if word == client.framing.value:
            return client
        try:
            client.call(_change(framing=word, hold_ms=_TRIED_MS), patience)
        except SensorRefusedError:
            continue
        except _UNANSWERED:
            pass  # its yes may have been lost, and it listens for the other by now
        better = Client(client.link, Framing(word), buffer_bytes=_USUAL_BUFFER_BYTES)
        try:
            better.call(_change(framing=word, hold_ms=_HELD_MS), patience)
            return better
        except (SensorRefusedError, *_UNANSWERED):
            _fall_back(client)
    return client


def _measure(client: Client, answer: Body | None) -> tuple[int, int]:
    """Buffer and window."""
    try:
        found = custom.decode(answer or {}, requests.Parameters)
    except MalformedError:
        found = None
    if found is not None and found.buf_size >= _SMALLEST_BUFFER_BYTES:
        # One of them is for the answer.
        window = max(1, min(WINDOW_LIMIT, found.buf_count - 1))
        return min(found.buf_size, _LARGEST_BUFFER_BYTES), window
    usual = _takes(client, message_room_bytes(client.framing, _USUAL_BUFFER_BYTES), _HELLO)
    return _USUAL_BUFFER_BYTES if usual else _SMALLEST_BUFFER_BYTES, 1


def _takes(client: Client, message_bytes: int, patience: Patience) -> bool:
    text = "U" * (message_bytes - _ECHO_AROUND_BYTES)
    try:
        return client.call(requests.echo(text), patience).get("r") == text
    except (SensorRefusedError, *_UNANSWERED):
        return False


def _try_baud(client: Client, peer: Peer, baud: int) -> bool:
    link, before = client.link, client.link.baud
    try:
        link.change_baud(baud)
        link.change_baud(before)
        client.call(_change(baud=baud, hold_ms=_TRIED_MS), _HELLO)
    except (PortError, SensorRefusedError):
        return False
    except _UNANSWERED:
        pass  # its yes may have been lost, and it is at that rate by now
    link.change_baud(baud)
    time.sleep(_SETTLE_S)
    once = replace(_HELLO, attempts=1)
    if all(_takes(client, peer.room_bytes, once) for _ in range(_HELD_ECHOES)):
        client.call(_change(baud=baud, hold_ms=_HELD_MS))
        return True
    link.change_baud(before)
    _fall_back(client)
    return False


def _fall_back(client: Client) -> None:
    """Wait until the sensor has gone back to how it was, and say hello again."""
    time.sleep(_TRIED_MS / 1000)
    client.link.clear()
    client.call(custom.ask(Operation.READ, Command.LINK))


def _change(*, hold_ms: int, baud: int = 0, framing: str = "") -> Request:
    change = LinkChange(baud=baud, framing=framing, hold_ms=hold_ms)
    return custom.ask(Operation.WRITE, Command.LINK, change)
