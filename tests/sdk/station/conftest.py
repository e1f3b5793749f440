"""A real broker, a receiver that hears everything, and frames to judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as paho
import pytest
from mosquitto_broker import Mosquitto
from tcp_relay import TcpRelay

from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.verdict import Evaluation, Reason, Timings, Verdict


class Ear:
    """Hears all topics of Lineside, with QoS 0: the broker then passes on before it acknowledges.

    Made of plain paho, not of our own code, so that it can witness against it.
    """

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._port = port
        self._subscribed = threading.Event()
        self._client: paho.Client | None = None

    def connect(self) -> None:
        self.disconnect()
        self._subscribed.clear()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.on_message = lambda _c, _u, m: self.messages.append((m.topic, m.payload, m.retain))
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.connect("127.0.0.1", self._port)
        client.subscribe("lineside/#", qos=0)
        client.loop_start()
        assert self._subscribed.wait(10)
        self._client = client

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def payloads(self, kind: str) -> list[bytes]:
        return [payload for topic, payload, _ in list(self.messages) if topic.endswith(f"/{kind}")]


class LevelInspector:
    """Judges by mean brightness: below 128 is OK. An inspector as the loop needs one."""

    def __init__(self, *, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.seen: list[str] = []

    def inspect_batch(self, frames: Sequence[Frame]) -> list[Inspection]:
        return [Inspection(verdict=self.judge(frame)) for frame in frames]

    def judge(self, frame: Frame) -> Verdict:
        time.sleep(self.pause_s)
        self.seen.append(frame.part_id)
        level = float(frame.pixels_hwc.mean())
        bad = level >= 128
        return Verdict(
            evaluation=Evaluation.NOT_OK if bad else Evaluation.OK,
            reason=Reason.BEYOND_LIMIT if bad else Reason.WITHIN_LIMIT,
            score=level,
            limit=128.0,
            unit="DN",
            product="level",
            model="0123456789abcdef",
            engine="mean/fp64",
            part_id=frame.part_id,
            timings=Timings(preprocess_us=1.0, infer_us=2.0, decide_us=1.0),
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    made: list[Mosquitto] = []

    def make(*extra: str) -> Mosquitto:
        made.append(Mosquitto(tmp_path, *extra))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def ear(broker: Mosquitto) -> Iterator[Ear]:
    made = Ear(broker.port)
    made.connect()
    yield made
    made.disconnect()


@pytest.fixture
def relay(broker: Mosquitto) -> Iterator[TcpRelay]:
    made = TcpRelay(broker.port)
    yield made
    made.close()


@pytest.fixture
def make_inspector() -> Callable[..., LevelInspector]:
    return LevelInspector


@pytest.fixture
def write_frames() -> Callable[..., list[str]]:
    """``write_frames(folder, count)`` writes count gray PNGs; returns their stems, in order."""

    def write(folder: Path, count: int, *, first: int = 0) -> list[str]:
        folder.mkdir(exist_ok=True)
        stems = [f"part-{number:05d}" for number in range(first, first + count)]
        for number, stem in enumerate(stems):
            pixels = np.full((8, 8), number * 37 % 256, np.uint8)
            aside = folder / f".{stem}.tmp"
            aside.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            aside.rename(folder / f"{stem}.png")
        return stems

    return write


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """``wait_until(condition, timeout_s)``: looks often, fails with the condition's words."""

    def wait(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, "did not come true in time"
            time.sleep(0.01)

    return wait
