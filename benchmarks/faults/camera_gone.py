"""The camera goes and comes back, hangs, goes blind and freezes, while parts keep being triggered.

    python benchmarks/faults/camera_gone.py --out benchmarks/results/faults_camera_gone.json
    python benchmarks/faults/camera_gone.py --quick

The camera is motion JPEG over HTTP, read by OpenCV; triggers come over MQTT with the part's id.
Each trigger has exactly one verdict, and none is OK while there is no picture to judge: everything
else would be a part that was passed unseen. When the camera is back parts are judged again.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

import msgspec
from feeder import Feeder
from line import STATION, Line, Outcome, open_line
from mjpeg_server import MjpegCamera
from script import Trial, prove, say
from tiny_bundle import build_camera_bundle
from witness import Witness

from lineside.mqtt import decode_verdict
from lineside.verdict import Evaluation

RATE_HZ: Final = 10.0
_GOOD_LEVEL: Final = 51
# A part whose trigger comes this long after the camera went is seen by nobody: a picture may be on
# its way, and the station is told by pictures alone that a camera is blind or frozen.
_GONE_AFTER_S: Final = 1.0
_FRAME_TIMEOUT_S: Final = 0.3
_SOURCE: Final = """\
[source]
kind = "camera"
address = "{url}"
silence_s = 0.5
frozen_frames = 10
reconnect_min_s = 0.05
reconnect_max_s = 0.5
[trigger]
kind = "mqtt"
frame_timeout_ms = 300
"""


class TriggerFeeder(Feeder):
    """A trigger a part, over MQTT.

    Attributes:
        blind: no part that is presented now can be seen.
    """

    def __init__(self, speaker: Witness, *, rate_hz: float) -> None:
        super().__init__(rate_hz=rate_hz)
        self.blind = False
        self._speaker = speaker

    def _present(self, part: str, number: int) -> None:
        if self.blind:
            self.bad.add(part)
        body = msgspec.json.encode({"id": f"trigger-{number}", "part": part})
        self._speaker.publish(f"{STATION}/cmd/trigger", body)


def kill(camera: MjpegCamera) -> None:
    """No connection, no listener."""
    camera.kill()


def hang(camera: MjpegCamera) -> None:
    """The connection stands and nothing comes."""
    camera.sending = False


def cover(camera: MjpegCamera) -> None:
    """The cap is on."""
    camera.level, camera.noise = 0, False


def freeze(camera: MjpegCamera) -> None:
    """The same picture again and again."""
    camera.noise = False


def restore(camera: MjpegCamera) -> None:
    """As on the first day."""
    camera.level, camera.noise, camera.sending = _GOOD_LEVEL, True, True
    if not camera.alive:
        camera.start()


FAULTS: Final[tuple[Callable[[MjpegCamera], None], ...]] = (kill, hang, cover, freeze)


def lose_often(line: Line, camera: MjpegCamera, times: int, chance: random.Random) -> Outcome:
    """Each fault so often, parts judged in between; then settle."""
    feeder = line.feeder
    assert isinstance(feeder, TriggerFeeder)
    line.start_station()
    line.wait_for(lambda: line.state.get("state") == "online", "the station")
    feeder.start()
    for _ in range(times):
        for fault in FAULTS:
            _wait_for_judged(line, 2)
            time.sleep(chance.uniform(0, 0.3))
            fault(camera)
            time.sleep(_GONE_AFTER_S)
            feeder.blind = True
            time.sleep(chance.uniform(0.3, 2))
            feeder.blind = False
            # The last of them must not wait for the first new picture.
            time.sleep(2 * _FRAME_TIMEOUT_S)
            restore(camera)
    _wait_for_judged(line, 2)
    outcome = line.settle()
    reasons = Counter(
        decode_verdict(found.payload, source="witness").reason for found in line.witness.deliveries
    )
    outcome.answers.update(reasons)
    return outcome


def _wait_for_judged(line: Line, more: int) -> None:
    """Until so many parts that come from now on were judged OK."""
    start = len(line.witness.deliveries)

    def enough() -> bool:
        came = [decode_verdict(one.payload, source="") for one in line.witness.deliveries[start:]]
        return sum(message.evaluation is Evaluation.OK for message in came) >= more

    line.wait_for(enough, "parts that are judged")


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """The one case."""
    camera = MjpegCamera()
    camera.level = _GOOD_LEVEL
    room = trial.room("camera")
    bundle = build_camera_bundle(trial.room("camera-bundle"))
    try:
        with open_line(room, bundle, source=_SOURCE.format(url=camera.url)) as line:
            line.feed_by(TriggerFeeder(line.witness, rate_hz=RATE_HZ))
            outcome = lose_often(line, camera, trial.times, trial.random)
    finally:
        camera.kill()
    say(f"{trial.times} times each: {', '.join(fault.__name__ for fault in FAULTS)}")
    return {"camera gone": outcome}


if __name__ == "__main__":
    sys.exit(
        prove("the camera gone, hanging, covered, frozen, and back", measure, full=25, quick=1)
    )
