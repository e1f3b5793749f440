"""A station whose inspection hangs says nothing to systemd any more, but still to the line."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frame_feed import Feed
from mosquitto_broker import Mosquitto

from lineside.health import HealthSettings, Notifier, open_health
from lineside.mqtt import MqttSettings, StationTopics, decode_verdict
from lineside.outbox import Outbox, OutboxSettings
from lineside.station import ModelCard, Pace, Product, Products, Station
from lineside.station.figures import health_sources

CARD = ModelCard(product="level", bundle="ab" * 32, version="1", engine="mean/fp64")
WATCHDOG_S = 0.6


def beats(systemd: socket.socket, for_s: float) -> int:
    """How often the watchdog was fed in that time."""
    end_s, count = time.monotonic() + for_s, 0
    while (left_s := end_s - time.monotonic()) > 0:
        systemd.settimeout(left_s)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            count += b"WATCHDOG=1" in systemd.recv(1000)
    return count


def test_a_hung_inspection_stops_the_beats_and_the_line_still_hears(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    make_inspector: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, contextlib.ExitStack() as end:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier(str(tmp_path / "notify"), watchdog_s=WATCHDOG_S)
        feed, inspector = Feed(), make_inspector()
        outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
        station = Station(
            topics=StationTopics(site="plant1", line="line3", station="aoi1"),
            products=Products([Product(card=CARD, inspector=inspector)]),
            source=feed,
            outbox=outbox,
            mqtt=MqttSettings(url=broker.url),
            pace=Pace(deadline_ms=200.0),
        )
        station.health = end.enter_context(
            open_health(
                HealthSettings(),
                health_sources(station, tmp_path),
                notifier=notifier,
                beating=("inspection", "source"),
                alive=station.vital,
            )
        )
        thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 20.0})
        thread.start()
        assert beats(systemd, 2.0) >= 2  # of some six

        inspector.pause_s = 4.0
        feed.give("stuck")
        wait_until(lambda: ear.payloads("verdict"))
        verdict = decode_verdict(ear.payloads("verdict")[0], source="ear")
        assert (verdict.part, verdict.reason) == ("stuck", "deadline")
        assert beats(systemd, 1.5) <= 1  # one may have been on its way

        inspector.pause_s = 0.0
        wait_until(lambda: inspector.seen == ["stuck"], 30)
        assert beats(systemd, 2.0) >= 1
        station.stop()
        thread.join(30)
        assert not thread.is_alive()
        outbox.close()
