"""An SMP server on a pseudo-terminal, made of the `smp` library's messages and its console framing.

None of our own protocol code is in its answers, but for the framings that the library lacks. The
line between can be told to lose, double, delay and garble.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import select
import struct
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import cbor2
from smp import header, image_management, os_management, packet

from lineside_bridge.framing import DetectingDecoder, Framing, encode_frame, new_decoder

_HEADER = struct.Struct(">BBHHBB")
_IMAGE = header.GroupId.IMAGE_MANAGEMENT
_OS = header.GroupId.OS_MANAGEMENT


@dataclass(kw_only=True)
class Faults:
    """By the number of the request or answer, counted from 0.

    Attributes:
        lose_requests, lose_answers: never arrive.
        double_answers: arrive twice.
        delay_answers_s: arrive late.
        garble_answers: arrive with a letter changed.
        chatter: sent before each answer.
        bit_error_rate: of every bit, both ways; by `seed`.
    """

    lose_requests: set[int] = field(default_factory=set)
    lose_answers: set[int] = field(default_factory=set)
    double_answers: set[int] = field(default_factory=set)
    delay_answers_s: dict[int, float] = field(default_factory=dict)
    garble_answers: set[int] = field(default_factory=set)
    chatter: bytes = b""
    bit_error_rate: float = 0.0
    seed: int = 0


class BitErrors:
    """Flips bits at a rate, from one flip to the next, so that few cost little."""

    def __init__(self, rate: float, seed: int) -> None:
        self.flips = 0
        self._rate = rate
        self._random = random.Random(seed)
        self._next = self._draw()

    def pass_on(self, data: bytes) -> bytes:
        """What arrives."""
        bits = 8 * len(data)
        if self._next >= bits:
            self._next -= bits
            return data
        noisy = bytearray(data)
        while self._next < bits:
            noisy[self._next // 8] ^= 1 << self._next % 8
            self.flips += 1
            self._next += 1 + self._draw()
        self._next -= bits
        return bytes(noisy)

    def _draw(self) -> int:
        if not self._rate:
            return sys.maxsize
        return int(math.log(1 - self._random.random()) / math.log1p(-self._rate))


class StockServer:
    """OS and image group as Zephyr answers them.

    Args:
        buffer_count: 0: it has no parameters, as old firmware.
        old_errors: errors are told as ``rc``, whatever the request's version.
        hardware: what its information says; empty: it has none.

    Attributes:
        slots: as the library has them.
        uploaded: what came so far of the image in ``upload_size``.
        names_images: the hash that its list has for what came.
        word_bytes: of its flash: what does not fill one at a request's end is asked for again, as
            MCUboot's serial recovery does.
        refuses_to_boot: it goes back from whatever it shall try.
        ignores_reset: it says yes, and does nothing.
    """

    def __init__(
        self,
        *,
        buffer_bytes: int = 2048,
        buffer_count: int = 4,
        old_errors: bool = False,
        hardware: str = "",
    ) -> None:
        self.hardware = hardware
        self.word_bytes = 1
        self.names_images = lambda data: hashlib.sha256(data).digest()
        self.refuses_to_boot = False
        self.ignores_reset = False
        self.buffer_bytes = buffer_bytes
        self.buffer_count = buffer_count
        self.old_errors = old_errors
        self.uploaded = bytearray()
        self.upload_size = 0
        self.upload_sha = b""
        self.offsets: list[int] = []
        self.longest = 0
        self.resets = 0
        running = hashlib.sha256(b"running").digest()
        self.slots: list[dict[str, Any]] = [
            {"slot": 0, "version": "1.0.0", "hash": running, "confirmed": True, "active": True}
        ]

    def answer(self, request: bytes) -> bytes:
        """A whole message for a whole message."""
        first, _, _, group, sequence, command = _HEADER.unpack(request[:8])
        if len(request) > self.buffer_bytes:
            return self._refuse(first, group, sequence, command, None, 2)
        self.longest = max(self.longest, len(request))
        body = cbor2.loads(request[8:])
        kind = {
            (_OS, 0): self._echo,
            (_OS, 5): self._reset,
            (_OS, 6): self._parameters,
            (_OS, 7): self._info,
            (_IMAGE, 0): self._state,
            (_IMAGE, 1): self._upload,
            (_IMAGE, 5): self._erase,
        }.get((group, command))
        found = None if kind is None else kind(body)
        if found is None:
            return self._refuse(first, group, sequence, command, None, 8)
        if isinstance(found, int):
            return self._refuse(first, group, sequence, command, group, found)
        answer = bytearray(bytes(found))
        answer[0] = first + 1  # the operation follows the request's
        answer[6] = sequence
        return bytes(answer)

    def _refuse(
        self, first: int, group: int, sequence: int, command: int, whose: int | None, code: int
    ) -> bytes:
        plain = whose is None or self.old_errors
        old: dict[str, Any] = {"rc": code, "rsn": "no"}
        body = old if plain else {"err": {"group": whose, "rc": code}}
        data = cbor2.dumps(body)
        return _HEADER.pack(first + 1, 0, len(data), group, sequence, command) + data

    def _echo(self, body: dict[str, Any]) -> Any:
        return os_management.EchoWriteResponse(r=body["d"])

    def _info(self, body: dict[str, Any]) -> Any:
        if not self.hardware:
            return None
        return os_management.OSApplicationInfoReadResponse(output=self.hardware)

    def _reset(self, body: dict[str, Any]) -> Any:
        self.resets += 1
        if not self.ignores_reset:
            self._boot()
        return os_management.ResetWriteResponse()

    def _boot(self) -> None:
        tried = [slot for slot in self.slots if slot.pop("pending", False)]
        kept = [slot for slot in self.slots if slot.get("confirmed")]
        chosen = tried[0] if tried and not self.refuses_to_boot else kept[-1]
        for slot in self.slots:
            slot["active"] = slot is chosen

    def _parameters(self, body: dict[str, Any]) -> Any:
        if not self.buffer_count:
            return None
        return os_management.MCUMgrParametersReadResponse(
            buf_size=self.buffer_bytes, buf_count=self.buffer_count
        )

    def _state(self, body: dict[str, Any]) -> Any:
        if body:
            chosen = [slot for slot in self.slots if slot["hash"] == body.get("hash")]
            if not chosen:
                return 3
            chosen[0]["confirmed" if body.get("confirm") else "pending"] = True
        images = [image_management.ImageState(**slot) for slot in self.slots]
        return image_management.ImageStatesReadResponse(images=images)

    def _erase(self, body: dict[str, Any]) -> Any:
        self.uploaded.clear()
        return image_management.ImageEraseResponse()

    def _upload(self, body: dict[str, Any]) -> Any:
        self.offsets.append(body["off"])
        if body["off"] == 0 and body["sha"] != self.upload_sha:
            self.uploaded.clear()
            self.upload_size, self.upload_sha = body["len"], body["sha"]
        if body["off"] == len(self.uploaded):
            self.uploaded += body["data"]
            if len(self.uploaded) < self.upload_size:
                del self.uploaded[len(self.uploaded) // self.word_bytes * self.word_bytes :]
        whole = len(self.uploaded) == self.upload_size
        match = hashlib.sha256(self.uploaded).digest() == self.upload_sha if whole else None
        if whole:
            name = self.names_images(self.uploaded)
            self.slots[1:] = [{"slot": 1, "version": "2.0.0", "hash": name}]
        return image_management.ImageUploadWriteResponse(off=len(self.uploaded), match=match)


class ConsoleFrames:
    """The library's own decoder of the console framing, which wants whole lines."""

    def __init__(self) -> None:
        self._begun = b""
        self._decoder: Any = None

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [found for line in lines for found in self._take(line + b"\n")]

    def quiet(self) -> list[bytes]:
        return []

    def _take(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(packet.START_DELIMITER):
            self._decoder = packet.decode()
            next(self._decoder)
        if self._decoder is None:
            return
        try:
            self._decoder.send(line)
        except StopIteration as ended:
            self._decoder = None
            yield ended.value
        except Exception:  # noqa: BLE001  (the library raises whatever base64 and struct do)
            self._decoder = None


class Responder:
    """A thread at the master's end; `port` is what a client opens.

    Args:
        answer: a message for a message.
        framing: ``None``: whichever is heard, until one is `chosen`.
        noise: instead of answering, sends this for as long as it runs.
    """

    def __init__(
        self,
        answer: Callable[[bytes], bytes | None],
        *,
        framing: Framing | None = Framing.CONSOLE,
        faults: Faults | None = None,
        noise: bytes = b"",
        chosen: Callable[[], str] = lambda: "",
    ) -> None:
        self.faults = faults or Faults()
        self.requests = 0
        self.answers = 0
        self.deaf = False
        self.errors = BitErrors(self.faults.bit_error_rate, self.faults.seed)
        self._answer = answer
        self._framing = framing
        self._noise = noise
        self._chosen = chosen
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Responder:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        frames: Any = DetectingDecoder() if self._framing is None else ConsoleFrames()
        if self._framing in (Framing.RAW, Framing.COBS):
            frames = new_decoder(self._framing)
        self.frames = frames
        while not self._stopping.is_set():
            if self._noise:
                self._write(self._noise)
            if not select.select([self._master], [], [], 0.02)[0]:
                frames.quiet()
                continue
            data = self.errors.pass_on(os.read(self._master, 65_536))
            if self._noise or self.deaf:
                continue
            for request in frames.feed(data):
                self._serve(request)

    def _serve(self, request: bytes) -> None:
        number, self.requests = self.requests, self.requests + 1
        if number in self.faults.lose_requests:
            return
        answer = self._answer(request)
        if answer is None:
            return
        number, self.answers = self.answers, self.answers + 1
        if number not in self.faults.lose_answers:
            self._send(answer, number)
        if self._framing is None and self._chosen():
            self.frames.choose(Framing(self._chosen()))

    def _send(self, answer: bytes, number: int) -> None:
        time.sleep(self.faults.delay_answers_s.get(number, 0))
        framing = self._framing or self.frames.framing
        if framing is Framing.CONSOLE:
            line = b"".join(packet.encode(answer))
        else:
            line = encode_frame(framing, answer)
        if number in self.faults.garble_answers:
            line = line[:7] + bytes([line[7] ^ 2]) + line[8:]
        times = 2 if number in self.faults.double_answers else 1
        self._write(self.errors.pass_on(self.faults.chatter + line * times))

    def _write(self, data: bytes) -> None:
        while data and not self._stopping.is_set():
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._master, data) :]
