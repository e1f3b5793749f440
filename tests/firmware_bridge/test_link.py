"""A port's faults: each with its remedy, none as somebody else's exception."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from lineside_bridge import link as link_module
from lineside_bridge.errors import PortError, SensorSilentError
from lineside_bridge.link import SerialLink, wire_s


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A master and its slave's name."""
    master, slave = pty.openpty()
    tty.setraw(master)
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_bytes_go_both_ways(terminal: tuple[int, str]) -> None:
    master, port = terminal
    with SerialLink(port, 921_600) as link:
        assert (link.name, link.baud) == (port, 921_600)
        link.write(bytes(range(256)))
        assert os.read(master, 1000) == bytes(range(256))
        os.write(master, b"\x00\xff\n\r\x11\x13")
        assert link.read(5) == b"\x00\xff\n\r\x11\x13"
        assert link.read(0) == b""


def test_what_has_come_can_be_forgotten(terminal: tuple[int, str]) -> None:
    master, port = terminal
    with SerialLink(port) as link:
        os.write(master, b"old")
        link.clear()
        os.write(master, b"new")
        assert link.read(5) == b"new"


def test_another_rate_is_taken_on(terminal: tuple[int, str]) -> None:
    _, port = terminal
    with SerialLink(port) as link:
        link.change_baud(460_800)
        assert link.baud == 460_800
        with pytest.raises(PortError, match="cannot do -5 baud"):
            link.change_baud(-5)
        assert link.baud == 460_800


def test_a_port_in_use_is_named(terminal: tuple[int, str]) -> None:
    _, port = terminal
    with SerialLink(port), pytest.raises(PortError, match="in use by another program") as caught:
        SerialLink(port)
    assert caught.value.port == port
    assert caught.value.exit_code == 13


def test_a_port_another_process_has_locked_is_in_use(terminal: tuple[int, str]) -> None:
    _, port = terminal
    other = os.open(port, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(PortError, match="fuser"):
        SerialLink(port)
    os.close(other)
    SerialLink(port).close()


def test_a_missing_port_is_named() -> None:
    with pytest.raises(PortError, match="not there: is it plugged in"):
        SerialLink("/dev/ttyNOSUCH0")


def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(PortError, match="no serial port"):
        SerialLink(str(path))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "usermod -aG dialout"),
        (errno.EPERM, "usermod -aG dialout"),
        (errno.EBUSY, "in use by another program"),
        (errno.EAGAIN, "in use by another program"),
        (errno.ENOENT, "not there"),
        (errno.ENODEV, "not there"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_each_refusal_of_the_system_has_its_remedy(number: int, words: str) -> None:
    """Tests run as root, whom no port refuses: so as pyserial would say it."""
    error = serial.SerialException(number, "could not open port")
    assert words in link_module._tell_open_fault(error, 115_200)


def test_pulled_out_is_said_so() -> None:
    master, slave = pty.openpty()
    port = os.ttyname(slave)
    link = SerialLink(port)
    os.close(slave)
    os.close(master)
    with pytest.raises(PortError, match="went away while it was in use"):
        link.read(5)
    with pytest.raises(PortError, match="plug it in again"):
        link.write(b"x")
    with pytest.raises(PortError, match="went away"):
        link.change_baud(9_600)
    link.close()


def test_a_line_that_takes_nothing_is_not_waited_for(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = terminal
    monkeypatch.setattr(link_module, "_WRITE_S", 0.1)
    with SerialLink(port) as link, pytest.raises(SensorSilentError, match="takes no bytes"):
        link.write(bytes(1_000_000))


def test_what_takes_long_goes_out_in_pieces(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that a write may take is of a piece: a slow line is none that is held up."""
    _, port = terminal
    with SerialLink(port) as link:
        pieces: list[bytes] = []
        monkeypatch.setattr(link._port, "write", pieces.append)
        link.write(bytes(range(256)) * 9)
        assert b"".join(pieces) == bytes(range(256)) * 9
        assert max(map(len, pieces)) <= 1024


def test_the_wire_s_time() -> None:
    assert wire_s(11_520, 115_200) == 1.0
    assert wire_s(11_520, 0) == 0.0
