"""Who triggers: the clock, and a serial line over a real pseudo-terminal with all its rubbish."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from lineside.backoff import Backoff
from lineside.errors import InputDataError
from lineside.sources import SerialTrigger, Trigger, TriggerSettings, probe_serial_port
from lineside.sources.interval import IntervalFeed
from lineside.sources.serial_lines import LINE_LIMIT_BYTES, SerialLines
from lineside.sources.serial_port import SerialFeed
from lineside.sources.trigger_settings import LINE_PATTERN

TEXT = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=";"), max_size=20)


class Line:
    """A serial cable: a pseudo-terminal behind a link that stays, as ``/dev/serial/by-id`` does."""

    def __init__(self, folder: Path) -> None:
        self.port = folder / "scanner"
        self._ours = -1
        self.plug_in()

    def plug_in(self) -> None:
        self._ours, theirs = pty.openpty()
        self.port.symlink_to(os.ttyname(theirs))
        os.close(theirs)

    def unplug(self) -> None:
        if self._ours >= 0:
            self.port.unlink()
            os.close(self._ours)
            self._ours = -1

    def say(self, data: bytes) -> None:
        os.write(self._ours, data)


class Heard:
    """What a feed has offered."""

    def __init__(self) -> None:
        self.triggers: list[Trigger] = []
        self.open = True

    def offer(self, trigger: Trigger) -> bool:
        if self.open:
            self.triggers.append(trigger)
        return self.open

    @property
    def parts(self) -> list[tuple[str, str]]:
        return [(one.part_id, one.product) for one in self.triggers]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.unplug()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def feed(line: Line, heard: Heard, wait_until: Callable[..., None]) -> Iterator[SerialFeed]:
    settings = SerialTrigger(port=str(line.port), reconnect_min_s=0.05, reconnect_max_s=0.1)
    made = SerialFeed(settings)
    made.start(heard.offer)
    # What is said before the port is open is lost: nobody was there.
    with ready(line, heard, wait_until):
        yield made
    made.close()


@contextlib.contextmanager
def ready(line: Line, heard: Heard, wait_until: Callable[..., None]) -> Iterator[None]:
    def answers() -> bool:
        line.say(b"ready\n")
        time.sleep(0.02)
        return bool(heard.triggers)

    wait_until(answers)
    time.sleep(0.3)
    heard.triggers.clear()
    yield


def test_each_line_is_a_trigger(
    line: Line, heard: Heard, feed: SerialFeed, wait_until: Callable[..., None]
) -> None:
    before_ns = time.monotonic_ns()
    line.say(b"P-0001\nP-0002;joint\r\nP-0003;\r")
    wait_until(lambda: len(heard.triggers) == 3)
    assert heard.parts == [("P-0001", ""), ("P-0002", "joint"), ("P-0003", "")]
    for one in heard.triggers:
        assert before_ns <= one.at_ns <= time.monotonic_ns()
        assert abs(one.at_unix_ns - time.time_ns()) < 60e9
    assert (feed.fault, feed.warn) == ("", "")
    assert not any(feed.counts.values())


def test_a_line_in_pieces_is_one_trigger(
    line: Line, heard: Heard, feed: SerialFeed, wait_until: Callable[..., None]
) -> None:
    for byte in b"P-0001;joint\n":
        line.say(bytes([byte]))
        time.sleep(0.005)
    wait_until(lambda: heard.parts == [("P-0001", "joint")])


def test_rubbish_is_counted_and_the_next_line_counts(
    line: Line, heard: Heard, feed: SerialFeed, wait_until: Callable[..., None]
) -> None:
    line.say(b"\x00\xff\xfe\x81\n" + b"x" * 2000 + b"\n" + b"a;b;c\n" + b"P-1\n")
    wait_until(lambda: heard.parts == [("P-1", "")])
    assert feed.counts["serial_noise"] == 2
    assert feed.counts["serial_overlong"] == 1
    assert "no triggers" in feed.warn
    assert feed.fault == ""


def test_half_a_line_is_no_trigger_and_neither_is_its_rest(
    line: Line, heard: Heard, feed: SerialFeed, wait_until: Callable[..., None]
) -> None:
    line.say(b"P-00")
    wait_until(lambda: feed.counts["serial_cut"] == 1)
    line.say(b"17\nP-0018\n")
    wait_until(lambda: bool(heard.triggers))
    assert heard.parts == [("P-0018", "")]


def test_a_port_that_is_unplugged_comes_back(
    line: Line, heard: Heard, feed: SerialFeed, wait_until: Callable[..., None]
) -> None:
    for number in range(2):
        line.say(b"half a li")
        line.unplug()
        wait_until(lambda: feed.fault != "")
        assert str(line.port) in feed.fault
        line.plug_in()
        wait_until(lambda: feed.fault == "")
        wait_until(lambda number=number: feed.counts["serial_reconnects"] >= number + 1)

        def answers() -> bool:
            line.say(b"back\n")
            time.sleep(0.05)
            return ("back", "") in heard.parts

        wait_until(answers)
        heard.triggers.clear()


def test_a_port_that_is_not_there_is_a_fault_not_an_end(
    tmp_path: Path, heard: Heard, wait_until: Callable[..., None]
) -> None:
    feed = SerialFeed(SerialTrigger(port=str(tmp_path / "none"), reconnect_min_s=0.05))
    feed.start(heard.offer)
    wait_until(lambda: "No such file" in feed.fault)
    feed.close()


def test_a_port_serves_one_program_only(
    line: Line, feed: SerialFeed, wait_until: Callable[..., None]
) -> None:
    settings = SerialTrigger(port=str(line.port))
    with pytest.raises(InputDataError, match="another program has it"):
        probe_serial_port(settings)
    feed.close()
    wait_until(lambda: _opens(settings))


def _opens(settings: SerialTrigger) -> bool:
    try:
        probe_serial_port(settings)
    except InputDataError:
        return False
    return True


def test_without_pyserial_the_remedy_is_named() -> None:
    program = (
        "import sys; sys.modules['serial'] = None\n"
        "from lineside.errors import ConfigurationError\n"
        "from lineside.sources import SerialTrigger, open_source, CameraSettings\n"
        "try: open_source(CameraSettings(address=0), SerialTrigger(port='/dev/x'), memory=None)\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 'pip install "lineside[serial]"' in done.stdout, done.stderr


def test_every_error_of_pyserial_is_one_that_is_caught() -> None:
    errors = [one for one in vars(serial).values() if isinstance(one, type)]
    errors = [one for one in errors if issubclass(one, Exception)]
    assert serial.SerialException in errors
    assert all(issubclass(one, (OSError, ValueError)) for one in errors)


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=6), st.data())
def test_lines_come_out_whole_however_they_are_cut(
    said: list[tuple[str, str]], data: st.DataObject
) -> None:
    ends = data.draw(st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=6, max_size=6))
    sent = "".join(
        f"{part};{product}{end}" for (part, product), end in zip(said, ends, strict=False)
    )
    left, lines, found = sent.encode(), SerialLines(LINE_PATTERN), []
    while left:
        size = data.draw(st.integers(1, len(left)))
        found += lines.feed(left[:size])
        left = left[size:]
    assert found == said
    assert lines.refused == 0


@given(st.lists(st.binary(max_size=600), max_size=20), st.integers(0, 3))
def test_whatever_comes_is_bounded_and_the_next_line_is_heard(
    pieces: list[bytes], quiet_after: int
) -> None:
    lines = SerialLines(LINE_PATTERN)
    for number, piece in enumerate(pieces):
        for part, product in lines.feed(piece):
            assert f"{part}{product}".isprintable()
        assert len(lines._begun) <= LINE_LIMIT_BYTES
        if number == quiet_after:
            lines.quiet()
    lines.feed(b"\n")
    assert lines.feed(b"P-1\n") == [("P-1", "")]


def test_noise_of_a_plug_does_not_cost_the_first_line() -> None:
    lines = SerialLines(LINE_PATTERN)
    assert lines.feed(b"\x00\xf8") == []
    lines.quiet()
    assert lines.feed(b"P-1\n") == [("P-1", "")]
    assert lines.cut == 1


def test_a_pattern_of_one_s_own() -> None:
    lines = SerialLines(r"SN=(?P<part>\d{4}) T=(?P<product>\w+)( .*)?")
    assert lines.feed(b"SN=0042 T=joint late shift\nSN=42 T=joint\n") == [("0042", "joint")]
    assert lines.noise == 1


def test_the_clock_keeps_its_step_however_late_it_is_woken() -> None:
    moments: list[int] = []
    done = threading.Event()

    def offer(trigger: Trigger) -> bool:
        moments.append(trigger.at_ns)
        if len(moments) == 3:
            time.sleep(0.11)  # two steps and a half go by
        if len(moments) == 6:
            done.set()
        return True

    feed = IntervalFeed(every_ms=40)
    feed.start(offer)
    assert done.wait(10)
    feed.close()
    assert {(moment - moments[0]) % 40_000_000 for moment in moments} == {0}
    assert feed.counts["intervals_missed"] >= 1
    assert feed.fault == ""


def test_pauses_double_until_one_attempt_succeeds() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.pause_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.succeeded()
    assert backoff.pause_s() == 0.5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "serial"}, "missing required field `port`"),
        ({"kind": "serial", "port": ""}, "no device"),
        ({"kind": "serial", "port": "/dev/x", "pattern": "("}, "pattern"),
        ({"kind": "serial", "port": "/dev/x", "pattern": "(.*)"}, "name its groups"),
        ({"kind": "serial", "port": "/dev/x", "pattern": "(?P<part>.)(?P<lot>.)"}, "name its"),
        ({"kind": "serial", "port": "/dev/x", "baud": 1}, ">= 50"),
        ({"kind": "serial", "port": "/dev/x", "reconnect_max_s": 0.1}, "shorter"),
        ({"kind": "mqtt", "delay_ms": 500}, "larger than delay_ms"),
        ({"kind": "mqtt", "match": "name"}, "Invalid enum value"),
        ({"kind": "mqtt", "most_waiting": 0}, ">= 1"),
        ({"kind": "mqtt", "port": "/dev/x"}, "unknown field `port`"),
        ({"kind": "interval"}, "every_ms"),
        ({"kind": "interval", "every_ms": 1}, ">= 10"),
        ({"kind": "free", "every_ms": 1}, "unknown field"),
        ({"kind": "gpio"}, "Invalid value 'gpio'"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(words)):
        msgspec.convert(settings, TriggerSettings)


def test_what_is_no_serial_port_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"P-1\n")
    with pytest.raises(InputDataError, match="serial port"):
        probe_serial_port(SerialTrigger(port=str(file)))
