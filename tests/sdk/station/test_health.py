"""Health: what the machine and the station say, in bounded bytes and bounded memory."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import ConfigurationError, InputDataError
from lineside.health import (
    HealthBroker,
    HealthModel,
    HealthMonitor,
    HealthSettings,
    HealthSources,
    Notifier,
    open_health,
)
from lineside.health.faults import FaultLog
from lineside.health.machine import MachineFigures, look_at_machine, read_temperatures
from lineside.health.recent import WINDOW_S, RecentLatency, RecentRate
from lineside.latency import LatencyHistogram, percentiles_between
from lineside.mqtt.health import (
    FAULTS_LIMIT,
    HEALTH_LIMIT_BYTES,
    HealthFault,
    HealthMessage,
    StageFigures,
    decode_health,
    encode_health,
)
from lineside.outbox import Outbox, OutboxSettings
from lineside.sources import CameraSettings, SerialTrigger, open_source
from lineside.verdict import Evaluation, Reason

WORDS = st.text(max_size=60)
NUMBERS = st.integers(-(10**25), 10**25)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(max_size=40)
STAGES = st.builds(
    StageFigures,
    p50_us=st.floats(0, 1e12),
    p99_us=st.floats(0, 1e12),
    max_us=st.floats(0, 1e12),
    recent=NUMBERS,
    count=NUMBERS,
    total_us=st.floats(0, 1e30),
)
FAULTS = st.builds(HealthFault, t=NUMBERS, what=WORDS, words=st.text(max_size=400), count=NUMBERS)
COUNTS = st.dictionaries(NAMES, NUMBERS, max_size=20)
MESSAGES = st.builds(
    HealthMessage,
    t=NUMBERS,
    up_s=NUMBERS,
    runtime=WORDS,
    product=WORDS,
    version=WORDS,
    model=st.text("0123456789abcdef", max_size=64),
    engine=WORDS,
    broker=WORDS,
    parts_per_min=FLOATS,
    rss_bytes=st.none() | NUMBERS,
    clock_synced=st.none() | st.booleans(),
    temp_c=st.none() | FLOATS,
    temp=st.dictionaries(NAMES, FLOATS, max_size=9),
    lat=st.dictionaries(NAMES, STAGES, max_size=10),
    reason=st.dictionaries(st.sampled_from([*(r.value for r in Reason), "x"]), NUMBERS),
    pressure=COUNTS,
    source=COUNTS,
    kept=COUNTS,
    commands=COUNTS,
    drift=st.dictionaries(NAMES, FLOATS | NUMBERS | WORDS | st.none(), max_size=20),
    trial=COUNTS,
    faults=st.lists(FAULTS, max_size=12).map(tuple),
)


@given(MESSAGES)
def test_whatever_comes_in_the_payload_is_flat_ordered_and_within_its_limit(
    message: HealthMessage,
) -> None:
    payload = encode_health(message)
    assert len(payload) <= HEALTH_LIMIT_BYTES
    figures = decode_health(payload, source="test")
    assert list(json.loads(payload)) == list(figures)
    fixed = [name for name in HealthMessage.__struct_fields__ if name in figures]
    assert list(figures)[:2] == ["v", "t"]
    assert fixed == [key for key in figures if key in HealthMessage.__struct_fields__]
    assert all(re.fullmatch(r"[a-z0-9_]+", key) for key in figures)


def worst() -> HealthMessage:
    names = {f"{number}".ljust(20, "x"): -(10**25) for number in range(20)}
    stage = StageFigures(p50_us=1e12, p99_us=1e12, max_us=1e12, recent=9, count=9, total_us=9.0)
    low = -1.23456e-88
    counters = ("reconnects", "queue", "parts", "ok", "not_ok", "not_decidable", "undefined")
    return HealthMessage(
        t=10**25,
        up_s=10**25,
        **dict.fromkeys(("runtime", "product", "version", "engine", "broker"), "x" * 99),
        **dict.fromkeys(counters, 10**25),
        **dict.fromkeys(("rss_bytes", "ram_bytes", "disk_bytes"), 10**25),
        model="f" * 64,
        clock_synced=False,
        parts_per_min=low,
        temp_c=low,
        temp=dict.fromkeys(names, low),
        lat=dict.fromkeys(names, stage),
        reason={reason.value: 10**25 for reason in Reason},
        pressure=names,
        source=names,
        kept=names,
        commands=names,
        drift=dict.fromkeys(names, "y" * 99),
        trial=names,
        faults=tuple(
            HealthFault(t=number, what="w" * 99, words=f"{number}" * 99, count=10**25)
            for number in range(FAULTS_LIMIT)
        ),
    )


def test_at_its_worst_only_the_oldest_faults_give_way() -> None:
    payload = encode_health(worst())
    assert len(payload) <= HEALTH_LIMIT_BYTES
    figures = decode_health(payload, source="test")
    assert figures["drift_9xxxxxxxxxxxxxxxxxxx"]  # the last of the groups that never give way
    assert figures["trial_1xxxxxxxxxxxxxxxxxxx"]
    assert all(f"reason_{reason.value}" in figures for reason in Reason)
    assert "fault8_t" not in figures
    assert figures.get("fault1_t", 0) == 0
    few = [f"fault{number}_count" in figures for number in range(1, 9)]
    assert few == sorted(few, reverse=True)


def test_every_count_of_the_busiest_source_reaches_the_wire(tmp_path: Path) -> None:
    outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
    trigger = SerialTrigger(port="/dev/none")
    source = open_source(CameraSettings(address=0), trigger, memory=outbox)
    counts = {"passed_over": 0, **source.counts}
    source.close()
    outbox.close()
    data = encode_health(HealthMessage(t=1, up_s=1, source=counts))
    assert {f"source_{name}" for name in counts} <= set(decode_health(data, source="test"))


def test_floats_have_a_point_and_integers_none() -> None:
    message = HealthMessage(t=1, up_s=2, parts_per_min=60.0, temp_c=61.0, drift={"score": 3.0})
    text = encode_health(message).decode()
    assert '"parts_per_min":60.0' in text
    assert '"temp_c":61.0' in text
    assert '"drift_score":3.0' in text
    assert '"up_s":2,' in text


def test_every_key_is_documented_in_its_order() -> None:
    document = (Path(__file__).parents[3] / "docs" / "plc.md").read_text("utf-8")
    section = document.split("## The health\n", 1)[1].split("\n## ", 1)[0]
    told = re.findall(r"^\| `(\w+?)(?:1_…|_<\w+>\w*…?|_<\w+>_…)?` \|", section, re.MULTILINE)
    groups = {"fault": "faults"}
    assert tuple(groups.get(key, key) for key in told) == HealthMessage.__struct_fields__
    assert f"at most {HEALTH_LIMIT_BYTES:,} bytes" in section
    assert f"`fault{FAULTS_LIMIT}_…`" in section


@pytest.mark.parametrize("data", [b"", b"[]", b'{"v":1}', b'{"v":1,"t":[1]}', b"\xff", b'{"t":1}'])
def test_what_is_no_health_is_refused(data: bytes) -> None:
    with pytest.raises(InputDataError, match="there: no health"):
        decode_health(data, source="there")


# The machine.


def sensor(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")


def test_temperatures_of_zones_the_hottest_first(tmp_path: Path) -> None:
    zones = tmp_path / "thermal"
    sensor(zones / "thermal_zone0", type="cpu-thermal", temp="45500")
    sensor(zones / "thermal_zone1", type="gpu-thermal", temp="61000")
    sensor(zones / "thermal_zone2", type="cpu-thermal", temp="47000")
    sensor(zones / "thermal_zone3", type="dead", temp="-273000")
    sensor(zones / "thermal_zone4", type="mad", temp="2147483647")
    sensor(zones / "thermal_zone5", type="mute", temp="n/a")
    sensor(zones / "thermal_zone6", type="without")
    sensor(zones / "cooling_device0", type="Fan", temp="99000")
    found = read_temperatures(tmp_path)
    assert list(found.items()) == [
        ("gpu-thermal", 61.0),
        ("cpu-thermal", 47.0),
        ("cpu-thermal2", 45.5),
    ]


def test_without_zones_the_chips_are_asked(tmp_path: Path) -> None:
    sensor(tmp_path / "hwmon/hwmon0", name="coretemp", temp1_input="40000", temp2_input="52000")
    sensor(tmp_path / "hwmon/hwmon1", name="nvme", temp1_input="39000", temp1_max="99000")
    found = read_temperatures(tmp_path)
    assert found == {"coretemp": 52.0, "coretemp2": 40.0, "nvme": 39.0}
    assert read_temperatures(tmp_path / "nothing") == {}


def test_this_machine_has_memory_and_a_disk(tmp_path: Path) -> None:
    figures = look_at_machine(tmp_path / "outbox.sqlite")  # not there yet: the folder counts
    assert figures.resident_bytes is not None
    assert 2**20 < figures.resident_bytes < 2**40
    assert figures.available_bytes is not None
    assert figures.available_bytes > 0
    assert figures.free_bytes is not None
    assert figures.free_bytes > 0


def test_where_nothing_can_be_read_nothing_is_told(tmp_path: Path) -> None:
    figures = look_at_machine(tmp_path / "no/such/disk", root=tmp_path)
    assert (figures.resident_bytes, figures.available_bytes, figures.free_bytes) == (None,) * 3
    assert figures.temperatures_c == {}


def test_a_container_s_limit_counts_where_it_leaves_less(tmp_path: Path) -> None:
    sensor(tmp_path / "proc", meminfo="MemTotal: 9 kB\nMemAvailable:   8000 kB\nX: 1 kB")
    sensor(tmp_path / "sys/fs/cgroup", **{"memory.max": "3000000", "memory.current": "1000000"})
    assert look_at_machine(tmp_path, root=tmp_path).available_bytes == 2_000_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert look_at_machine(tmp_path, root=tmp_path).available_bytes == 8000 * 1024


# The last minutes.


def test_percentiles_forget_what_is_long_ago() -> None:
    recent, histogram = RecentLatency(), LatencyHistogram()
    for _ in range(100):
        histogram.add(1e6)
    assert recent.look(histogram, 0.0).p50_us == pytest.approx(1e6, rel=0.01)
    figures = None
    for second in range(1, int(WINDOW_S) + 121):
        histogram.add(1000.0)
        figures = recent.look(histogram, float(second))
    assert figures is not None
    assert figures.max_us == pytest.approx(1000.0, rel=0.021)
    assert figures.p99_us == pytest.approx(1000.0, rel=0.01)
    assert WINDOW_S <= figures.recent <= WINDOW_S + 60
    assert figures.count == 100 + WINDOW_S + 120
    assert figures.total_us == pytest.approx(100e6 + (WINDOW_S + 120) * 1000.0)


def test_a_stage_that_went_quiet_has_no_percentiles() -> None:
    recent, histogram = RecentLatency(), LatencyHistogram()
    histogram.add(5.0)
    looks = [recent.look(histogram, 30.0 * number) for number in range(20)]
    assert looks[0].recent == 1
    assert (looks[-1].recent, looks[-1].max_us, looks[-1].p99_us) == (0, 0.0, 0.0)


@given(st.lists(st.floats(0.2, 1e9), max_size=30), st.lists(st.floats(0.2, 1e9), min_size=1))
def test_between_two_moments_lies_what_came_between(
    before: list[float], between: list[float]
) -> None:
    histogram, alone = LatencyHistogram(), LatencyHistogram()
    for duration_us in before:
        histogram.add(duration_us)
    mark = histogram.counts()
    for duration_us in between:
        histogram.add(duration_us)
        alone.add(duration_us)
    found, expected = percentiles_between(mark, histogram.counts()), alone.percentiles()
    assert found.count == expected.count
    assert found.p50_us == pytest.approx(expected.p50_us, rel=0.021)
    assert found.p99_us == pytest.approx(expected.p99_us, rel=0.021)
    assert found.max_us == pytest.approx(max(between), rel=0.021)


def test_parts_per_minute() -> None:
    rate = RecentRate()
    assert rate.look(1000, 0.0) == 0.0  # not since ever: since we look
    for second in range(1, 120):
        found = rate.look(1000 + 2 * second, float(second))
        assert found == pytest.approx(120.0)
    for second in range(120, 200):
        found = rate.look(1240, float(second))
    assert found == 0.0


# Faults.


def test_the_same_words_are_one_fault_and_eight_are_kept() -> None:
    log = FaultLog(clock_ns=lambda: 5_000_000_000)
    for number in range(20):
        log.note("engine", f"fault {number}")
        log.note("source", "gone")
    last = log.last()
    assert len(last) == FAULTS_LIMIT
    assert (last[0].what, last[0].count, last[0].t) == ("source", 20, 5000)
    assert last[1].words == "fault 19"
    assert log.counts() == {"engine": 20, "source": 20}


def test_a_fault_that_lasts_is_noted_once_and_again_when_it_returns() -> None:
    log = FaultLog()
    for active in ({"disk": "full"}, {"disk": "full"}, {"disk": ""}, {"disk": "full"}, {}):
        log.hold(active)
    assert log.counts() == {"disk": 2}
    assert log.active == {}
    log.hold({"disk": "full", "source": ""})
    assert log.active == {"disk": "full"}


def test_kinds_of_faults_are_bounded() -> None:
    log = FaultLog()
    for number in range(100):
        log.note(f"kind{number}", "x" * 10_000)
    assert len(log.counts()) == 17
    assert sum(log.counts().values()) == 100
    assert max(len(fault.words) for fault in log.last()) == 400


# The monitor.


def tallied(**more: Any) -> HealthSources:
    histogram = LatencyHistogram()
    histogram.add(2000.0)
    given: dict[str, Any] = {
        "disk": Path(),
        "evaluations": lambda: {Evaluation.OK.name: 3, Evaluation.NOT_DECIDABLE.name: 1},
        "reasons": lambda: {"within_limit": 3, "engine": 1},
        "latencies": lambda: {"infer": histogram},
        "model": lambda: HealthModel(
            product="p", version="1", bundle="ab" * 32, engine="openvino/int8"
        ),
        "broker": lambda: HealthBroker(word="online", reconnects=2, queue=7),
        "faults": lambda: {"source": "no such folder"},
        "pressure": lambda: {"newest": 4},
        "source": lambda: {"frames_without_part": 1},
        "kept": lambda: {"maps_lost": 0},
        "drift": lambda: {"score": 0.25, "state": "steady"},
    }
    return HealthSources(**{**given, **more})


def test_a_snapshot_holds_what_every_part_says() -> None:
    monitor = HealthMonitor(tallied(), look=lambda: MachineFigures(temperatures_c={"cpu": 61.5}))
    monitor.look()
    figures = decode_health(encode_health(monitor.snapshot().message), source="test")
    expected = {
        "v": 1,
        "product": "p",
        "model": "abababababab",
        "broker": "online",
        "reconnects": 2,
        "queue": 7,
        "parts": 4,
        "ok": 3,
        "not_decidable": 1,
        "temp_c": 61.5,
        "temp_cpu": 61.5,
        "lat_infer_p50_us": 2000,
        "reason_engine": 1,
        "pressure_newest": 4,
        "source_frames_without_part": 1,
        "kept_maps_lost": 0,
        "drift_score": 0.25,
        "drift_state": "steady",
        "fault1_what": "source",
        "fault1_words": "no such folder",
        "fault1_count": 1,
    }
    assert {key: figures[key] for key in expected} == pytest.approx(expected)
    assert figures["rss_bytes"] is None


def test_a_disk_that_hangs_holds_nobody_and_its_old_figures_are_not_told(
    wait_until: Callable[..., None],
) -> None:
    now_s, hangs = 0.0, threading.Event()
    held = threading.Event()

    def look() -> MachineFigures:
        if now_s > 0:
            held.set()
            hangs.wait(60)
        return MachineFigures(free_bytes=5)

    monitor = HealthMonitor(tallied(), look=look, clock_s=lambda: now_s)
    monitor.look()
    assert monitor.snapshot().message.disk_bytes == 5
    now_s = 29.0
    monitor.start()
    assert held.wait(10)
    assert monitor.snapshot().message.disk_bytes == 5
    now_s = 31.0
    assert monitor.snapshot().message.disk_bytes is None
    assert monitor.snapshot().message.queue == 7  # the rest is as ever
    hangs.set()
    monitor.stop(10)


def test_a_fault_of_ours_in_the_thread_is_told(wait_until: Callable[..., None]) -> None:
    def fail() -> MachineFigures:
        raise RuntimeError("a bug")

    monitor = HealthMonitor(tallied(), look=fail)
    excepthook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        monitor.start()
        wait_until(lambda: monitor.fault != "")
    finally:
        threading.excepthook = excepthook
    assert "a bug" in monitor.snapshot().active["health"]
    monitor.stop()


def test_opened_it_runs_and_ends(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    notifier = Notifier()
    with open_health(HealthSettings(), tallied(disk=tmp_path), notifier=notifier) as health:
        first = decode_health(health.payload(), source="test")
        assert first["disk_bytes"]
        wait_until(lambda: "lineside-health" in {thread.name for thread in threading.enumerate()})
        assert health.server is None
        assert health.fault == ""
    assert "lineside-health" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    "text",
    [
        *("9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0"),
        *("127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:9e3", "::1:9464", "[127.0.0.1]:9464"),
        *("127.0.0.1:٣", "http://127.0.0.1:9464", "[::1]9464", " ", "127.0.0.1:999999999999"),
    ],
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ADDRESS:PORT") as caught:
        HealthSettings(prometheus=text)
    assert caught.value.path == "health.prometheus"


@pytest.mark.parametrize("text", ["127.0.0.1:9464", "[::1]:9464", "0.0.0.0:1", "[::]:65535"])
def test_an_address_comes_back_whole(text: str) -> None:
    assert str(HealthSettings(prometheus=text).listen) == text
