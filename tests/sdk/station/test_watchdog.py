"""systemd hears that we live while all that is vital lives, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lineside.errors import ConfigurationError
from lineside.health import Notifier, Watchdog


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode("utf-8"))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def notifier(tmp_path: Path, systemd: Systemd) -> Iterator[Notifier]:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "10000000"}
    made = Notifier.from_environment(environment)
    assert environment == {}  # no child may answer in our place
    yield made
    made.close()


class Clock:
    """Stands until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_every_word_as_systemd_reads_it(notifier: Notifier, systemd: Systemd) -> None:
    assert notifier.ready("inspecting")
    assert notifier.status("two\nlines\tand  spaces")
    assert notifier.alive()
    assert notifier.stopping()
    assert systemd.heard() == [
        "READY=1\nSTATUS=inspecting",
        "STATUS=two lines and spaces",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_an_abstract_socket() -> None:
    name = f"lineside-test-{os.getpid()}-{threading.get_ident()}"
    systemd = Systemd(b"\0" + name.encode())
    notifier = Notifier(f"@{name}")
    assert notifier.ready()
    assert systemd.heard() == ["READY=1"]
    systemd.close()
    assert not notifier.ready()  # nobody there: no error
    notifier.close()


def test_without_systemd_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    notifier = Notifier.from_environment({})
    assert not notifier.ready()
    assert not notifier.alive()
    assert notifier.watchdog_s is None
    notifier.close()


def test_a_queue_that_is_full_does_not_hold_us(notifier: Notifier, systemd: Systemd) -> None:
    sent = [notifier.status("x" * 200) for _ in range(10_000)]
    assert sent[0]
    assert not sent[-1]
    assert len(systemd.heard()) == sum(sent)
    assert notifier.alive()


@pytest.mark.parametrize("address", ["relative", "vsock:2:1234", "@", "/" + "x" * 120])
def test_a_socket_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFY_SOCKET"):
        Notifier(address)


@pytest.mark.parametrize("limit", ["0", "-5", "x", "1.5", "²"])
def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    with pytest.raises(ConfigurationError, match="WATCHDOG_USEC"):
        Notifier.from_environment({"WATCHDOG_USEC": limit})


def test_a_limit_for_another_process_is_not_ours() -> None:
    ours = {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier.from_environment(ours).watchdog_s == 5.0
    others = {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}
    assert Notifier.from_environment(others).watchdog_s is None


def test_beats_reach_systemd_every_half_of_its_limit(notifier: Notifier, systemd: Systemd) -> None:
    clock = Clock()
    watchdog = Watchdog(notifier, clock_s=clock)
    sent_at_s = []
    for _ in range(200):
        clock.now_s += 0.1
        watchdog.beat()
        sent_at_s += [clock.now_s] * len(systemd.heard())
    assert sent_at_s == pytest.approx([1005.0, 1010.0, 1015.0, 1020.0], abs=0.11)


@pytest.mark.parametrize("hung", ["source", "inspection"])
def test_one_thread_that_hangs_silences_all(
    notifier: Notifier, systemd: Systemd, hung: str
) -> None:
    clock = Clock()
    watchdog = Watchdog(notifier, beating=("source", "inspection"), clock_s=clock)
    for _ in range(60):
        clock.now_s += 0.1
        watchdog.beat("source")
        watchdog.beat("inspection")
    assert systemd.heard() == ["WATCHDOG=1"]
    lives = "source" if hung == "inspection" else "inspection"
    for _ in range(300):
        clock.now_s += 0.1
        watchdog.beat(lives)
    assert len(systemd.heard()) <= 1  # what it had shown before may count once more
    assert watchdog.trouble() == f"{hung} is silent for 30 s"
    watchdog.beat(hung)
    watchdog.beat(lives)
    assert systemd.heard() == ["WATCHDOG=1"]
    assert watchdog.trouble() == ""


def test_a_thread_that_has_done_its_work_is_not_waited_for(
    notifier: Notifier, systemd: Systemd
) -> None:
    clock = Clock()
    watchdog = Watchdog(notifier, beating=("source", "inspection"), clock_s=clock)
    watchdog.retire("source")
    clock.now_s += 20
    watchdog.beat("inspection")
    assert systemd.heard() == ["WATCHDOG=1"]
    assert watchdog.trouble() == ""
    with pytest.raises(KeyError, match="source"):
        watchdog.beat("source")


def test_a_thread_that_has_ended_silences_all(notifier: Notifier, systemd: Systemd) -> None:
    clock, ended = Clock(), threading.Event()
    watchdog = Watchdog(notifier, alive={"publisher": lambda: not ended.is_set()}, clock_s=clock)
    clock.now_s += 6
    watchdog.beat()
    assert systemd.heard() == ["WATCHDOG=1"]
    ended.set()
    clock.now_s += 6
    watchdog.beat()
    assert systemd.heard() == []
    assert watchdog.trouble() == "publisher has ended"


def test_a_beat_that_systemd_could_not_take_is_sent_with_the_next(
    notifier: Notifier, systemd: Systemd
) -> None:
    clock = Clock()
    watchdog = Watchdog(notifier, clock_s=clock)
    while notifier.status("filling"):
        pass
    clock.now_s += 6
    watchdog.beat()
    assert "WATCHDOG=1" not in systemd.heard()
    watchdog.beat()
    assert systemd.heard() == ["WATCHDOG=1"]


def test_without_a_limit_nothing_is_sent_and_life_is_watched_all_the_same(
    tmp_path: Path, systemd: Systemd
) -> None:
    clock = Clock()
    notifier = Notifier(str(tmp_path / "notify"))
    watchdog = Watchdog(notifier, clock_s=clock)
    for _ in range(100):
        clock.now_s += 1
        watchdog.beat()
    assert systemd.heard() == []
    assert watchdog.trouble() == ""
    clock.now_s += 61
    assert watchdog.trouble() == "inspection is silent for 61 s"
    notifier.close()


def test_a_name_that_nobody_waits_for_is_a_fault() -> None:
    with pytest.raises(KeyError, match="inspecton"):
        Watchdog(Notifier()).beat("inspecton")


def test_beats_of_many_threads_are_all_counted(
    notifier: Notifier, systemd: Systemd, wait_until: Callable[..., None]
) -> None:
    clock, names = Clock(), tuple(f"thread{number}" for number in range(8))
    watchdog = Watchdog(notifier, beating=names, clock_s=clock)
    clock.now_s += 6

    def beat(name: str) -> None:
        for _ in range(200):
            watchdog.beat(name)

    threads = [threading.Thread(target=beat, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert systemd.heard() == ["WATCHDOG=1"]
