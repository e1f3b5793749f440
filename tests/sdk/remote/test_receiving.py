"""The station's side without a broker: chunks and downloads into a real store, in its thread."""

from __future__ import annotations

import hashlib
import random
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bundle_server import BundleServer, serving
from remote_station import Latch, until

from lineside.bundle import PublicKey
from lineside.errors import (
    BundleError,
    ConfigurationError,
    DowngradeError,
    InputDataError,
    LinesideError,
    RefusedError,
    SelfTestError,
    StorageError,
    StoreBusyError,
    TargetError,
    UntrustedBundleError,
)
from lineside.mqtt.commands import DETAIL_LIMIT_CHARS
from lineside.mqtt.desk import Reply
from lineside.remote import InstallArgs, SignedCommand
from lineside.remote.chunk import (
    CHUNK_LIMIT_BYTES,
    HEADER_BYTES,
    Chunk,
    pack_chunk,
    unpack_chunk,
)
from lineside.remote.fetching import FetchError, check_base, place_of
from lineside.remote.leastpace import LeastPace, PaceMeter
from lineside.remote.receiving import ROOM_BYTES, BundleReceiving
from lineside.remote.reception import Destination, installed_words
from lineside.remote.refusals import refusal_words
from lineside.slots import Incoming, SlotCard, Store, open_store

DATA = random.Random(3).randbytes(700_000)
SHA256 = hashlib.sha256(DATA).digest()


@contextmanager
def limited_files(size_bytes: int) -> Iterator[None]:
    """A disk that takes no larger file, to this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


class Ear:
    """Hears what the station answers."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def __call__(self, reply: Reply) -> None:
        self.replies.append(reply)

    @property
    def offsets(self) -> list[int]:
        return [int(r.answer.detail) for r in self.replies if r.cmd == "chunk" and r.answer.ok]

    def end(self, command_id: str = "c") -> Reply:
        """The answer at the end; waits for it."""
        until(lambda: bool(self.ends(command_id)))
        return self.ends(command_id)[-1]

    def ends(self, command_id: str = "c") -> list[Reply]:
        found = [reply for reply in self.replies if reply.cmd == "install"]
        return [reply for reply in found if reply.command_id == command_id]

    def complaints(self) -> list[str]:
        found = [reply for reply in self.replies if reply.command_id == ""]
        return [reply.answer.detail for reply in found]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store", make=True)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def receive(store: Store, ear: Ear) -> Iterator[Callable[..., BundleReceiving]]:
    """``receive(url=…, proof=…)`` starts the thread."""
    running: list[BundleReceiving] = []

    def make(proof: Callable[[], None] = lambda: None, **more: Any) -> BundleReceiving:
        def prove() -> str:
            try:
                proof()
            except LinesideError:
                store.discard()
                raise
            incoming = next(s.incoming for s in store.record.slots.values() if s.incoming)
            card = SlotCard(
                hash=incoming.sha256.hex(),
                size_bytes=incoming.size_bytes,
                key_id=bytes(16),
                security_counter=0,
            )
            slot = store.finish(card)
            return installed_words(store.record.slots[slot].state, slot, card.hash)

        destination = Destination(store=store, check_room=lambda _: None, prove=prove)
        receiving = BundleReceiving(lambda _: destination, answer=ear, silent_s=0.3, **more)
        receiving.start()
        running.append(receiving)
        return receiving

    yield make
    for receiving in running:
        receiving.stop()
        receiving.check()


@pytest.fixture
def server() -> Iterator[BundleServer]:
    with serving(DATA) as server:
        yield server


def install(
    command_id: str = "c", *, data: bytes = DATA, url: str = "", size: int | None = None
) -> SignedCommand:
    args = InstallArgs(
        sha256=hashlib.sha256(data).hexdigest(), size=len(data) if size is None else size, url=url
    )
    return SignedCommand(
        verb="install",
        args=args,
        command_id=command_id,
        key=PublicKey(raw=bytes(32)),
        nonce=bytes(16),
        signed_unix_ms=0,
        expires_unix_ms=0,
    )


def chunks(data: bytes = DATA, size: int = 50_000) -> list[bytes]:
    digest = hashlib.sha256(data).digest()
    return [
        pack_chunk(sha256=digest, offset=offset, data=data[offset : offset + size])
        for offset in range(0, len(data), size)
    ]


def installed(store: Store) -> bytes:
    active = store.record.active
    return b"" if active is None else store.read(active, 0, len(DATA))


def test_a_chunk_comes_back_as_it_went() -> None:
    payload = pack_chunk(sha256=SHA256, offset=2**40 + 1, data=b"bytes")
    assert payload == SHA256[:8] + (2**40 + 1).to_bytes(8, "little") + b"bytes"
    found = unpack_chunk(payload)
    assert found == Chunk(tag=SHA256[:8], offset=2**40 + 1, data=memoryview(b"bytes"))
    for wrong in (b"", payload[:HEADER_BYTES], bytes(HEADER_BYTES + CHUNK_LIMIT_BYTES + 1)):
        with pytest.raises(InputDataError, match="bytes of data"):
            unpack_chunk(wrong)


def test_chunks_in_any_order_and_twice_are_the_file(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store
) -> None:
    receiving = receive()
    assert receiving.begin(install()) is None
    until(lambda: ear.offsets == [0])
    parts = chunks()
    draw = random.Random(5)
    while not ear.ends():
        for part in draw.sample(parts, len(parts)):
            receiving.chunk(part)
            receiving.chunk(part)
        before = len(ear.replies)
        until(lambda before=before: len(ear.replies) > before)  # type: ignore[misc]
    assert ear.end().answer.detail == f"confirmed a {SHA256.hex()[:16]}"
    assert installed(store) == DATA
    assert ear.offsets == sorted(ear.offsets)


def test_what_belongs_to_nothing_is_told_seldom(
    receive: Callable[..., BundleReceiving], ear: Ear
) -> None:
    receiving = receive()
    for _ in range(100):
        receiving.chunk(chunks()[0])
    until(lambda: bool(ear.replies))
    assert set(ear.complaints()) == {"no file is being taken here; send install first"}
    assert len(ear.complaints()) < 20, "one a second"


def test_more_than_there_is_room_for_is_dropped(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store
) -> None:
    latch = Latch()
    receiving = receive(proof=latch)
    receiving.begin(install())
    for part in chunks():
        receiving.chunk(part)
    assert latch.reached.wait(20)
    for _ in range(2 * ROOM_BYTES // 50_000):
        receiving.chunk(chunks()[0])
    # A sender that asks meanwhile hears that all is there, and both hear the end.
    receiving.begin(install("d"))
    until(lambda: [r.command_id for r in ear.replies][-1] == "d")
    assert ear.offsets[-1] == len(DATA)
    receiving.begin(install("e", data=DATA[:-1]))
    assert "busy: another file" in ear.end("e").answer.detail
    latch.release()
    assert ear.end().answer.ok
    assert ear.end("d").answer.ok
    assert ear.complaints() == []
    assert installed(store) == DATA


def test_a_sender_that_falls_silent_gives_way(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store
) -> None:
    receiving = receive()
    receiving.begin(install())
    parts = chunks()
    receiving.chunk(parts[0])
    until(lambda: ear.offsets[-1:] == [50_000])
    receiving.begin(install("d"))
    assert "busy: this file comes from another sender, 7 %" in ear.end("d").answer.detail
    while not [r for r in ear.replies if (r.cmd, r.command_id) == ("chunk", "e")]:
        receiving.begin(install("e"))
        threading.Event().wait(0.05)
    for part in parts[1:]:
        receiving.chunk(part)
    until(lambda: ear.ends("e")[-1].answer.ok)
    assert ear.ends("c") == [], "it would be of no use to it"
    assert installed(store) == DATA


def test_a_pace_is_judged_window_by_window_and_silence_counts_for_nothing() -> None:
    least = LeastPace(size_bytes=100, window_s=60.0, pause_s=10.0)
    meter = PaceMeter(least, 0.0)
    assert not any(meter.is_too_slow(9, now_s) for now_s in range(5, 60, 5))
    assert not meter.is_too_slow(9, 60.0), "108 bytes"
    assert [meter.is_too_slow(4, now_s) for now_s in range(65, 125, 5)] == [False] * 11 + [True]
    meter = PaceMeter(least, 0.0)
    assert not any(meter.is_too_slow(1, float(now_s)) for now_s in range(0, 600, 10))


def test_a_sender_that_drips_is_given_up_and_may_go_on(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store
) -> None:
    receiving = receive(least=LeastPace(size_bytes=100_000, window_s=0.3, pause_s=9.0))
    receiving.begin(install())
    drops = iter(chunks(size=100))
    while not ear.ends():
        receiving.chunk(next(drops))
        threading.Event().wait(0.02)
    assert ear.end().answer.detail.startswith("slow: under 97 KiB in 0.3 s")
    came = ear.offsets[-1]
    assert came > 0
    receiving.begin(install("d"))
    until(lambda: ("chunk", "d") in [(r.cmd, r.command_id) for r in ear.replies])
    assert ear.offsets[-1] == came
    for part in chunks():
        receiving.chunk(part)
    assert ear.end("d").answer.ok
    assert installed(store) == DATA


def test_a_sender_that_only_asks_is_given_up_too(
    receive: Callable[..., BundleReceiving], ear: Ear
) -> None:
    receiving = receive(least=LeastPace(size_bytes=1, window_s=0.3, pause_s=9.0))
    while not ear.ends():
        receiving.begin(install())
        threading.Event().wait(0.02)
    assert ear.end().answer.detail.startswith("slow: ")
    receiving.begin(install("d", data=DATA[:9]))
    receiving.chunk(chunks(DATA[:9])[0])
    assert ear.end("d").answer.ok


def test_an_answer_is_given_again(receive: Callable[..., BundleReceiving], ear: Ear) -> None:
    def refuse() -> None:
        raise SelfTestError("not the sealed ones")

    receiving = receive(proof=refuse)
    receiving.begin(install())
    for part in chunks():
        receiving.chunk(part)
    first = ear.end()
    receiving.begin(install())
    until(lambda: len(ear.ends()) == 2)
    assert ear.ends() == [first, first]


def test_bytes_beyond_the_size_end_it(receive: Callable[..., BundleReceiving], ear: Ear) -> None:
    receiving = receive()
    receiving.begin(install(size=60_000))
    receiving.chunk(chunks()[0])
    receiving.chunk(chunks()[1])
    assert ear.end().answer.detail.startswith("malformed: bytes beyond the size")


def test_what_another_process_has_begun_meanwhile_is_its_own(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store, tmp_path: Path
) -> None:
    receiving = receive()
    receiving.begin(install())
    receiving.chunk(chunks()[0])
    until(lambda: ear.offsets[-1:] == [50_000])
    theirs = Incoming(sha256=bytes(32), size_bytes=10)
    open_store(tmp_path / "store").begin(theirs)
    receiving.chunk(chunks()[1])
    assert ear.end().answer.detail.startswith("slots: ")
    assert theirs in [slot.incoming for slot in store.record.slots.values()]


def test_a_disk_that_fills_up_gets_its_room_back(
    receive: Callable[..., BundleReceiving], ear: Ear, tmp_path: Path
) -> None:
    receiving = receive()
    receiving.begin(install())
    receiving.chunk(chunks()[0])
    until(lambda: ear.offsets[-1:] == [50_000])
    with limited_files(60_000):
        receiving.chunk(chunks()[1])
        words = ear.end().answer.detail
    assert words.startswith("storage: ")
    assert not any(slot.incoming for slot in open_store(tmp_path / "store").record.slots.values())


def test_a_download(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store, server: BundleServer
) -> None:
    receive(url=server.url).begin(install(url="new.lsb"))
    assert ear.end().answer.ok
    assert installed(store) == DATA
    assert server.asked == [("/bundles/new.lsb", "")]


def test_a_download_whose_size_the_server_says(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store, server: BundleServer
) -> None:
    receive(url=server.url).begin(install(url="new.lsb", size=0))
    assert ear.end().answer.ok
    assert installed(store) == DATA


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_broke_off(
    receive: Callable[..., BundleReceiving],
    ear: Ear,
    store: Store,
    server: BundleServer,
    ranges: bool,
) -> None:
    server.cut_bytes, server.cuts, server.ranges = 300_000, 1, ranges
    receive(url=server.url).begin(install(url="new.lsb"))
    assert ear.end().answer.ok
    assert installed(store) == DATA
    assert [wanted for _, wanted in server.asked] == ["", "bytes=300000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_drips_is_given_up_and_what_came_stays(
    receive: Callable[..., BundleReceiving],
    ear: Ear,
    store: Store,
    server: BundleServer,
    ranges: bool,
) -> None:
    server.hold_bytes, server.drip_s, server.ranges = 300_000, 0.02, ranges
    least = LeastPace(size_bytes=1000, window_s=0.3, pause_s=9.0)
    receiving = receive(url=server.url, least=least)
    receiving.begin(install(url="new.lsb"))
    assert ear.end().answer.detail.startswith("download: slow: under 0 KiB in 0.3 s; what came")
    server.hold_bytes = 2**40
    receiving.begin(install("d", url="new.lsb"))
    assert ear.end("d").answer.ok
    assert installed(store) == DATA
    if ranges:
        first, _, last = server.asked[-1][1].partition("=")[2].partition("-")
        assert int(first) >= 300_000
        assert last == ""


def test_a_download_follows_within_its_host_only(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store, server: BundleServer
) -> None:
    server.moved = {
        "/bundles/elsewhere.lsb": "http://localhost:1/new.lsb",
        "/bundles/file.lsb": "file:///etc/passwd",
        "/bundles/circle.lsb": "/bundles/circle.lsb",
        "/bundles/there.lsb": "/bundles/new.lsb",
    }
    receiving = receive(url=server.url)
    for name in ("elsewhere", "file", "circle"):
        receiving.begin(install(name, url=f"{name}.lsb"))
        assert ear.end(name).answer.detail.startswith("download: "), name
    receiving.begin(install("there", url="there.lsb"))
    assert ear.end("there").answer.ok
    assert installed(store) == DATA


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 404}, "download: /bundles/new.lsb: 404 Not Found"),
        ({"data": DATA[:-1]}, "download: 699999 bytes there, 700000 announced"),
        ({"data": DATA[:-1] + b"x"}, "storage: .*changed on its way: send it again"),
    ],
)
def test_what_the_server_has_is_not_what_was_announced(
    receive: Callable[..., BundleReceiving],
    ear: Ear,
    store: Store,
    server: BundleServer,
    change: dict[str, Any],
    words: str,
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    receive(url=server.url).begin(install(url="new.lsb"))
    assert re.match(words, ear.end().answer.detail)
    assert installed(store) == b""


def test_a_server_that_says_no_size(
    receive: Callable[..., BundleReceiving], ear: Ear, store: Store, server: BundleServer
) -> None:
    server.sized = False
    receiving = receive(url=server.url)
    receiving.begin(install(url="new.lsb", size=0))
    assert "does not say the size" in ear.end().answer.detail
    receiving.begin(install("d", url="new.lsb"))
    assert ear.end("d").answer.ok
    assert installed(store) == DATA


@pytest.mark.parametrize("name", ["../new.lsb", "a/../../new.lsb", "/etc", "a//b", "a\\b", "."])
def test_a_name_stays_below_the_base(name: str) -> None:
    with pytest.raises(InputDataError, match=r"below commands.url"):
        place_of("https://store.example/bundles", name)


def test_a_name_is_a_name_and_no_url() -> None:
    base = "https://store.example/bundles/"
    assert place_of(base, "a b/%2e?x#y.lsb") == f"{base}a%20b/%252e%3Fx%23y.lsb"
    assert place_of(base, "http:x") == f"{base}http%3Ax"
    with pytest.raises(FetchError, match=r"commands.url is not set"):
        place_of("", "new.lsb")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "store.example",
        "https://",
        "https://u:p@host/",
        "https://host/?q",
        "http://[x",
    ],
)
def test_a_base_is_a_folder_of_a_web_server(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"commands.url") as refused:
        check_base(url)
    assert "u:p" not in str(refused.value)


def test_each_kind_of_error_has_its_word() -> None:
    errors: dict[str, LinesideError] = {
        "busy": StoreBusyError("x"),
        "storage": StorageError("x"),
        "downgrade": DowngradeError("x", expected=2, actual=1),
        "target": TargetError("x", expected="a", actual="b"),
        "untrusted": UntrustedBundleError("x", key_id=""),
        "bundle": BundleError("x"),
        "self_test": SelfTestError("x"),
        "slots": RefusedError("x"),
        "failed": LinesideError("x"),
    }
    for word, error in errors.items():
        assert refusal_words(error) == f"{word}: x"


def test_of_a_long_refusal_its_kind_and_what_was_measured_are_left() -> None:
    measured = "value drifts 0.2 (tolerance 0.0001)"
    words = refusal_words(SelfTestError(f"{'/a/long/path' * 20}: no engine passes: {measured}"))
    assert len(words) == DETAIL_LIMIT_CHARS
    assert words.startswith("self_test: /a/long/path")
    assert words.endswith(measured)
    whole = "x" * (DETAIL_LIMIT_CHARS - len("storage: "))
    assert refusal_words(StorageError(whole)) == f"storage: {whole}"
