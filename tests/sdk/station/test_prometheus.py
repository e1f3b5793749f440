"""The page for Prometheus by a strict reader, and its listener against rude guests."""

from __future__ import annotations

import http.client
import math
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import exposition_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosquitto_broker import free_port

from lineside.errors import ConfigurationError
from lineside.health import (
    HealthMonitor,
    HealthServer,
    HealthSettings,
    HealthSnapshot,
    HealthSources,
    expose,
)
from lineside.health.http import REQUEST_LIMIT_BYTES, answer_to
from lineside.health.server import CONNECTIONS_LIMIT
from lineside.latency import LatencyHistogram
from lineside.mqtt.health import HealthMessage, StageFigures

TEXT = st.text(max_size=20)
COUNTS = st.dictionaries(TEXT, st.integers(0, 10**18), max_size=8)
SNAPSHOTS = st.builds(
    HealthSnapshot,
    message=st.builds(
        HealthMessage,
        t=st.integers(0, 10**13),
        up_s=st.integers(0, 10**9),
        product=TEXT | st.just('a"b\\c\nd\ud800'),
        version=TEXT,
        engine=TEXT,
        broker=TEXT,
        rss_bytes=st.none() | st.integers(0, 2**63),
        clock_synced=st.none() | st.booleans(),
        temp=st.dictionaries(TEXT, st.floats(-60, 200), max_size=4),
        lat=st.dictionaries(
            st.text("abcdefgh_", min_size=1, max_size=9).filter(lambda name: name.strip("_")),
            st.builds(
                StageFigures,
                p50_us=st.floats(0, 1e12),
                p99_us=st.floats(0, 1e12),
                max_us=st.floats(0, 1e12),
                recent=st.integers(0, 3),
                count=st.integers(0, 10**18),
                total_us=st.floats(0, 1e30),
            ),
            max_size=1,
        ),
        pressure=COUNTS,
        source=COUNTS,
        drift=st.dictionaries(TEXT, st.floats() | st.integers() | TEXT | st.none(), max_size=8),
    ),
    active=st.dictionaries(TEXT, TEXT),
    fault_counts=COUNTS,
)


@given(SNAPSHOTS)
def test_whatever_is_told_can_be_read_by_the_specification(snapshot: HealthSnapshot) -> None:
    families = exposition_parser.parse(expose(snapshot))
    assert all(name.startswith("lineside_") for name in families)
    info = dict(next(iter(families["lineside_station_info"].samples))[1])
    assert info["product"] == snapshot.message.product.encode("utf-8", "replace").decode()


def told(tmp_path: Path) -> HealthSnapshot:
    histogram = LatencyHistogram()
    for duration_us in (1000.0, 2000.0, 9000.0):
        histogram.add(duration_us)
    sources = HealthSources(
        disk=tmp_path,
        evaluations=lambda: {"OK": 2, "NOT_OK": 1},
        reasons=lambda: {"within_limit": 2, "beyond_limit": 1},
        latencies=lambda: {"infer": histogram, "delivery": LatencyHistogram()},
        faults=lambda: {"disk": "full", "source": ""},
        pressure=lambda: {"gave_way": 3},
        source=lambda: {"frames_without_part": 4},
        kept=lambda: {"maps_lost": 5},
        commands=lambda: {"refused_stranger": 3},
        drift=lambda: {"score": 0.5, "state": "steady"},
        trial=lambda: {"parts": 17},
    )
    monitor = HealthMonitor(sources)
    monitor.look()
    return monitor.snapshot()


def test_every_figure_has_its_place(tmp_path: Path) -> None:
    families = exposition_parser.parse(expose(told(tmp_path)))

    def value(name: str, **labels: str) -> float:
        family = families[name if name in families else re.sub("_(sum|count)$", "", name)]
        return family.samples[name, tuple(sorted(labels.items()))]

    assert value("lineside_verdicts_total", evaluation="ok") == 2
    assert value("lineside_verdicts_total", evaluation="undefined") == 0
    assert value("lineside_verdict_reasons_total", reason="beyond_limit") == 1
    assert value("lineside_back_pressure_total", what="gave_way") == 3
    assert value("lineside_source_total", what="frames_without_part") == 4
    assert value("lineside_kept_total", what="maps_lost") == 5
    assert value("lineside_commands_total", what="refused_stranger") == 3
    assert value("lineside_drift", figure="score") == 0.5
    assert value("lineside_trial", figure="parts") == 17
    assert value("lineside_fault", what="disk") == 1
    assert value("lineside_faults_total", what="disk") == 1
    assert value("lineside_stage_seconds_count", stage="infer") == 3
    assert value("lineside_stage_seconds_sum", stage="infer") == pytest.approx(0.012)
    half = value("lineside_stage_seconds", stage="infer", quantile="0.5")
    assert half == pytest.approx(0.002, rel=0.01)
    assert math.isnan(value("lineside_stage_seconds", stage="delivery", quantile="0.99"))
    assert value("lineside_stage_longest_seconds", stage="infer") == pytest.approx(0.009)
    assert value("lineside_memory_resident_bytes") > 2**20
    assert value("lineside_disk_free_bytes") > 0
    assert families["lineside_stage_seconds"].kind == "summary"
    assert len(families["lineside_fault"].samples) == 1
    assert len(families["lineside_drift"].samples) == 1  # words are no figure


def test_every_family_is_documented(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "station.md").read_text("utf-8")
    snapshot = told(tmp_path)
    families = exposition_parser.parse(expose(snapshot))
    documented = set(re.findall(r"^\| `(lineside_\w+)", document, re.MULTILINE))
    # Not every machine has sensors or tells of its clock.
    assert documented - set(families) <= {
        "lineside_temperature_celsius",
        "lineside_clock_synchronized",
    }
    assert set(families) <= documented


@pytest.mark.parametrize(
    "text",
    [
        "x 1",
        "x 1\n",
        "# HELP x words\n# TYPE x gauge\n",
        "# HELP x words\n# TYPE x gauge\nx one\n",
        "# HELP x words\n# TYPE x gauge\nx 1\nx 2\n",
        "# HELP x words\n# TYPE x counter\nx 1\n",
        "# HELP x_total words\n# TYPE x_total counter\nx_total -1\n",
        "# HELP x words\n# TYPE x gauge\ny 1\n",
        '# HELP x words\n# TYPE x gauge\nx{a="b} 1\n',
        '# HELP x words\n# TYPE x gauge\nx{a="b\\q"} 1\n',
        '# HELP x words\n# TYPE x gauge\nx{a="1",a="2"} 1\n',
        '# HELP x words\n# TYPE x summary\nx{a="1"} 1\n',
        "# HELP x wo\\rds\n# TYPE x gauge\nx 1\n",
        "# TYPE x gauge\nx 1\n",
    ],
)
def test_the_reader_would_notice(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        exposition_parser.parse(text)


# The listener.


class Fixed:
    """Answers without a station."""

    def __init__(self, trouble: str = "") -> None:
        self._trouble = trouble

    def metrics(self) -> str:
        return "# page\n"

    def trouble(self) -> str:
        return self._trouble


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /metrics HTTP/1.0\r\n\r\n", 200),
        ("GET /metrics?name[]=up HTTP/1.1\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 404),
        ("GET /metrics/../etc HTTP/1.1\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", 405),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        ("get /metrics HTTP/1.1\r\n\r\n", 400),
        ("GET http://x/metrics HTTP/1.1\r\n\r\n", 400),
        ("GET /metrics HTTP/2.0\r\n\r\n", 400),
        ("GET /met\x01rics HTTP/1.1\r\n\r\n", 400),
        ("\x16\x03\x01\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nX: " + "x" * REQUEST_LIMIT_BYTES + "\r\n\r\n", 431),
        ("GET /metrics HTTP/1.1\r\nX: " + "x" * REQUEST_LIMIT_BYTES, 431),
    ],
)
def test_each_request_has_its_answer(request_text: str, code: int) -> None:
    answer = answer_to(request_text.encode("latin-1"), Fixed())
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {code} ".encode())
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head


def test_a_station_that_does_not_live_is_no_ok() -> None:
    answer = answer_to(b"GET /healthz HTTP/1.1\r\n\r\n", Fixed("inspection is silent for 61 s"))
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"inspection is silent for 61 s\n")


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    answer = answer_to(noise, Fixed())
    assert answer is None or answer.startswith(b"HTTP/1.1 4")
    ended = answer_to(noise + b"\r\n\r\n", Fixed())
    assert ended is not None


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., HealthServer]]:
    made: list[HealthServer] = []

    def start(*, patience_s: float = 30.0, trouble: str = "") -> HealthServer:
        address = HealthSettings(prometheus=f"127.0.0.1:{free_port()}").listen
        assert address is not None
        snapshot = told(tmp_path)
        server = HealthServer(
            address, snapshot=lambda: snapshot, trouble=lambda: trouble, patience_s=patience_s
        )
        server.start()
        made.append(server)
        return server

    yield start
    for server in made:
        server.stop()


def fetch(server: HealthServer, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://{server.address}{path}", timeout=20) as response:
        found: str = response.read().decode("utf-8")
        return found


def connect(server: HealthServer) -> socket.socket:
    return socket.create_connection((server.address.host, server.address.port), timeout=20)


def test_a_stock_client_reads_the_page(serve: Callable[..., HealthServer]) -> None:
    server = serve()
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=20) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = exposition_parser.parse(response.read().decode("utf-8"))
    assert "lineside_verdicts_total" in families
    assert fetch(server, "/healthz") == "ok\n"


def test_a_stock_client_hears_refusals(serve: Callable[..., HealthServer]) -> None:
    server = serve(trouble="publisher has ended")
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(server, "/healthz")
    assert (caught.value.code, caught.value.read()) == (503, b"publisher has ended\n")
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=20)
    connection.request("POST", "/metrics", body=b"x" * 100_000)
    assert connection.getresponse().status == 405
    connection.close()


def test_guests_that_say_nothing_keep_nobody_out(serve: Callable[..., HealthServer]) -> None:
    server = serve()
    silent = [connect(server) for _ in range(3 * CONNECTIONS_LIMIT)]
    assert "lineside_station_info" in fetch(server)
    # The oldest gave way; the listener closed them.
    assert silent[0].recv(1) == b""
    for one in silent:
        one.close()


def test_a_byte_now_and_then_does_not_hold_a_place(serve: Callable[..., HealthServer]) -> None:
    server = serve(patience_s=0.5)
    with connect(server) as slow:
        gone = False
        deadline_s = time.monotonic() + 20
        while not gone and time.monotonic() < deadline_s:
            try:
                slow.sendall(b"G")
                slow.settimeout(0.1)
                gone = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                gone = True
    assert gone
    assert "lineside_station_info" in fetch(server)


def test_a_request_in_pieces_and_one_that_ends_in_the_middle(
    serve: Callable[..., HealthServer],
) -> None:
    server = serve()
    with connect(server) as broken:
        broken.sendall(b"GET /met")
    with connect(server) as guest:
        for byte in b"GET /healthz HTTP/1.1\r\n\r\n":
            guest.sendall(bytes([byte]))
        answer = b""
        while chunk := guest.recv(100):
            answer += chunk
    assert answer.endswith(b"\r\n\r\nok\n")
    assert server.fault == ""


def test_many_at_once_all_hear_the_same(serve: Callable[..., HealthServer]) -> None:
    server, heard = serve(), []
    threads = [threading.Thread(target=lambda: heard.append(fetch(server))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(heard) == 8
    assert len(set(heard)) == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = HealthSettings(prometheus=f"127.0.0.1:{taken.getsockname()[1]}").listen
        assert address is not None
        with pytest.raises(ConfigurationError, match="in use") as caught:
            HealthServer(address, snapshot=lambda: told(tmp_path))
    assert caught.value.path == "health.prometheus"
    assert str(address) in str(caught.value)


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    address = HealthSettings(prometheus="192.0.2.1:9464").listen  # RFC 5737: nobody's
    assert address is not None
    with pytest.raises(ConfigurationError, match=r"health\.prometheus: 192\.0\.2\.1:9464"):
        HealthServer(address, snapshot=lambda: told(tmp_path))


def test_stopped_the_port_is_free_again(serve: Callable[..., HealthServer]) -> None:
    server = serve()
    fetch(server)
    server.stop()
    with pytest.raises(OSError, match="refused"):
        connect(server)
    again = HealthServer(server.address, snapshot=lambda: told(Path()))
    again.start()
    again.stop()
