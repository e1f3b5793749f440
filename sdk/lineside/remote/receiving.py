"""The station's side of an installation from afar: a thread between the broker and the store.

Chunks are put down by the publisher's thread, which never waits: what finds no room is dropped, and
its sender sends it again. Writing, downloading and proving happen here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from lineside.errors import LinesideError
from lineside.mqtt.commands import Answer
from lineside.mqtt.desk import Reply
from lineside.remote.chunk import CHUNK_LIMIT_BYTES
from lineside.remote.download import Download
from lineside.remote.fetching import Fetch, FetchError, check_base, place_of
from lineside.remote.gate import SignedCommand
from lineside.remote.leastpace import LeastPace
from lineside.remote.reception import (
    LEAST_PACE,
    SILENT_S,
    Destination,
    Reception,
    Request,
)
from lineside.remote.refusals import refusal_words
from lineside.remote.verbs import InstallArgs
from lineside.worker import Worker

# The usual window of a sender, several times.
ROOM_BYTES: Final = 2 * CHUNK_LIMIT_BYTES
_BEGINS_KEPT: Final = 8
_JOIN_S: Final = 2.0


class BundleReceiving:
    """Takes bundles that come from afar, one after the other, in a thread of its own.

    Args:
        find: the store of a product, and what proves a bundle in it; see `Destination`.
        answer: publishes an answer; from any thread, must not block.
        url: where bundles may be downloaded from; ``""``: nowhere.
        silent_s: a sender that says nothing for so long gives way to another.
        least: slower transfers are given up, and may be gone on with.

    Raises:
        ConfigurationError: no such URL.
    """

    def __init__(
        self,
        find: Callable[[str], Destination],
        *,
        answer: Callable[[Reply], None],
        url: str = "",
        silent_s: float = SILENT_S,
        least: LeastPace = LEAST_PACE,
    ) -> None:
        self._base = check_base(url) if url else ""
        self._answer = answer
        self._reception = Reception(find, silent_s=silent_s, least=least)
        self._least = least
        self._changed = threading.Condition()
        self._begins: dict[str, tuple[Request, str]] = {}
        self._chunks: deque[bytes] = deque()
        self._chunk_bytes = 0
        self._is_woken = False
        self._is_proving = False
        self._stopping = threading.Event()
        self._download: Download | None = None
        self._worker = Worker(self._run, name="lineside-receiving")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    def begin(self, command: SignedCommand) -> Answer | None:
        """``install``: begin, or go on with what is there.

        Returns:
            A refusal; ``None``: the answers come by themselves.
        """
        args = command.args
        assert isinstance(args, InstallArgs), "not an install"
        request = Request(
            command_id=command.command_id,
            sha256=bytes.fromhex(args.sha256),
            size_bytes=args.size,
            product=args.product,
            fetched=bool(args.url),
        )
        try:
            place = place_of(self._base, args.url) if args.url else ""
        except LinesideError as error:
            return Answer(ok=False, detail=refusal_words(error))
        with self._changed:
            if self._is_proving:
                self._tell(self._reception.join(request))
                return None
            # Asked again while a server or a disk keeps us waiting: one answer is enough.
            self._begins.pop(request.command_id, None)
            if len(self._begins) >= _BEGINS_KEPT:
                return Answer(ok=False, detail="busy: too many installations are asked for at once")
            self._begins[request.command_id] = (request, place)
            self._changed.notify()
        return None

    def chunk(self, payload: bytes) -> None:
        """A message of ``cmd/chunk``; dropped where there is no room."""
        with self._changed:
            has_room = self._chunk_bytes + len(payload) <= ROOM_BYTES
            if has_room and not self._is_proving:
                self._chunks.append(payload)
                self._chunk_bytes += len(payload)
                self._changed.notify()

    def stop(self) -> None:
        """Give up what goes on; it is gone on with after the next start."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._worker.join(_JOIN_S)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                begins, chunks = self._wait()
                for request, place in begins:
                    self._begin(request, place)
                if chunks:
                    self._tell(self._reception.take(chunks, time.monotonic()))
                if self._download is not None:
                    self._take_from(self._download)
                if self._reception.whole and not self._stopping.is_set():
                    self._prove()
        finally:
            self._drop_download()

    def _wait(self) -> tuple[list[tuple[Request, str]], list[bytes]]:
        with self._changed:
            self._changed.wait_for(self._has_work)
            begins, chunks = list(self._begins.values()), list(self._chunks)
            self._begins.clear()
            self._chunks.clear()
            self._chunk_bytes = 0
            self._is_woken = False
        return begins, chunks

    def _has_work(self) -> bool:
        return bool(self._begins or self._chunks or self._is_woken or self._stopping.is_set())

    def _wake(self) -> None:
        with self._changed:
            self._is_woken = True
            self._changed.notify()

    def _begin(self, request: Request, place: str) -> None:
        if place and not request.size_bytes:
            try:
                request = self._measured(request, place)
            except FetchError as error:
                answer = Answer(ok=False, detail=refusal_words(error))
                self._tell([Reply(cmd="install", command_id=request.command_id, answer=answer)])
                return
        self._tell(self._reception.begin(request, time.monotonic()))
        taken = self._reception.request
        if self._download is not None and self._download.request != taken:
            self._drop_download()
        if place and taken == request and self._download is None:
            self._download = Download(
                place,
                request,
                offset=self._reception.offset,
                wake=self._wake,
                least=self._least,
            )

    def _measured(self, request: Request, place: str) -> Request:
        """With the size that the server says. Holds up this thread until it does."""
        taken = self._reception.request
        if taken is not None and taken.sha256 == request.sha256:
            return replace(request, size_bytes=taken.size_bytes)
        with Fetch(place, offset=0) as fetch:
            if not fetch.size_bytes:
                raise FetchError("the server does not say the size: give it", passing=False)
            return replace(request, size_bytes=fetch.size_bytes)

    def _take_from(self, download: Download) -> None:
        """What it has read since; or its fault, which ends it."""
        try:
            block = download.take()
        except FetchError as error:
            self._tell(self._reception.give_up(refusal_words(error), keep=True))
            self._drop_download()
            return
        if not block:
            return
        self._wake()  # there may be more
        self._tell(self._reception.append(block, time.monotonic()))
        if self._reception.request is None or self._reception.whole:
            self._drop_download()

    def _drop_download(self) -> None:
        if self._download is not None:
            self._download.close()
            self._download = None

    def _prove(self) -> None:
        with self._changed:
            self._is_proving = True
        try:
            replies = self._reception.prove()
        finally:
            with self._changed:
                self._is_proving = False
        self._tell(replies)

    def _tell(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            self._answer(reply)
