"""station.toml: every key known, every wrong one named by its path, nothing secret repeated."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import ConfigurationError
from lineside.limits import LimitSettings
from lineside.mqtt import MqttSettings, check_topic_part, parse_topic
from lineside.mqtt.topics import KINDS, StationTopics
from lineside.sources import CameraSettings, SerialTrigger, VideoSettings
from lineside.station import MapSettings, StationConfiguration, read_configuration
from lineside.station.configuration import sections_in
from lineside.station.trial import TrialSettings

GOOD = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "joint.lsb"
trust = ["factory.pub", "/etc/keys"]
[source]
kind = "folder"
path = "frames"
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], StationConfiguration]:
    def make(text: str) -> StationConfiguration:
        file = tmp_path / "station.toml"
        file.write_text(text, encoding="utf-8")
        return read_configuration(file)

    return make


def test_the_least_that_is_needed(
    read: Callable[[str], StationConfiguration], tmp_path: Path
) -> None:
    configuration = read(GOOD)
    assert configuration.bundles[0].path == tmp_path / "joint.lsb"
    assert configuration.bundles[0].trust == (tmp_path / "factory.pub", Path("/etc/keys"))
    assert configuration.source.path == tmp_path / "frames"
    assert configuration.outbox.path == tmp_path / "outbox.sqlite"
    assert configuration.limits == LimitSettings()
    assert configuration.maps == MapSettings()
    assert configuration.mqtt.url == "mqtt://127.0.0.1:1883"
    assert configuration.topics.verdict == "lineside/v1/plant1/line3/aoi1/verdict"


def test_limits_and_where_their_override_lies(
    read: Callable[[str], StationConfiguration], tmp_path: Path
) -> None:
    limits = read(GOOD + "[limits]\nok = 1\nnot_ok = 2.5\noverride = 'x.override'").limits
    assert (limits.ok, limits.not_ok) == (1.0, 2.5)
    assert limits.override == tmp_path / "x.override"


def test_a_camera_and_who_triggers_it(
    read: Callable[[str], StationConfiguration], tmp_path: Path
) -> None:
    camera = (
        'kind = "camera"\naddress = "rtsp://cam/1"\nusername = "me"\npassword_file = "cam.password"'
    )
    serial = '\n[trigger]\nkind = "serial"\nport = "/dev/ttyUSB0"\ndelay_ms = -20'
    configuration = read(GOOD.replace('kind = "folder"\npath = "frames"', camera) + serial)
    assert configuration.source == CameraSettings(
        address="rtsp://cam/1", username="me", password_file=tmp_path / "cam.password"
    )
    assert configuration.trigger == SerialTrigger(port="/dev/ttyUSB0", delay_ms=-20)
    video = read(GOOD.replace("folder", "video").replace('"frames"', '"film.avi"')).source
    assert video == VideoSettings(path=tmp_path / "film.avi")


def test_a_password_in_a_camera_s_address_is_refused_and_not_told(
    read: Callable[[str], StationConfiguration],
) -> None:
    camera = 'kind = "camera"\naddress = "rtsp://me:geheim@cam/1"'
    with pytest.raises(ConfigurationError, match=r"source: address: user and password") as caught:
        read(GOOD.replace('kind = "folder"\npath = "frames"', camera))
    assert "geheim" not in str(caught.value)


def test_where_pictures_lie_and_how_many(
    read: Callable[[str], StationConfiguration], tmp_path: Path
) -> None:
    maps = read(GOOD + "[maps]\npath = 'maps'\nmost = 7").maps
    assert maps == MapSettings(path=tmp_path / "maps", most=7, keep_free_mib=1024)


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ("[mqtt]\nurll = 'x'", "mqtt.urll", "did you mean url"),
        ("[mqqt]\nurl = 'x'", "mqqt", "did you mean mqtt"),
        (
            "[outbox]\nqqq = 1",
            "outbox.qqq",
            "there are journal_days, journal_max_mib, keep_free_mib, max_mib, path",
        ),
        ("[outbox]\nmax_mib = 'big'", "outbox.max_mib", "Expected `int`"),
        ("[outbox]\npath = ''", "outbox.path", "expected a path"),
        ("[maps]\nfolder = 'x'", "maps.folder", "there are keep_free_mib, most, path"),
        ("[maps]\npath = 'x'\nmost = 0", "maps.most", ">= 1"),
        ("[maps]\npath = 'x'\nkeep_free_mib = -1", "maps.keep_free_mib", ">= 0"),
        ("[maps]\npath = ''", "maps.path", "expected a path"),
        ("[maps]\nmost = 5", "maps.path", "is missing"),
        ("[maps]\npath = 'frames'", "maps.path", "its own pictures"),
        ("[maps]\npath = 'other/../frames/'", "maps.path", "its own pictures"),
        ("[limits]\nok_limit = 1", "limits.ok_limit", "there are not_ok, ok, override"),
        ("[limits]\nok = true", "limits.ok", "Expected `float"),
        ("[limits]\nok = '0.1'", "limits.ok", "Expected `float"),
        ("[limits]\nok = nan", "limits", "ok = nan is not a finite number"),
        ("[limits]\nnot_ok = -inf", "limits", "not_ok = -inf is not a finite number"),
        ("[limits]\nok = " + "9" * 400, "limits.ok", "out of range"),
        ("[limits]\noverride = ''", "limits.override", "expected a path"),
        ("[commands]\nunsigned = ['pause']", "commands.unsigned[0]", "Invalid enum value"),
        ("[commands]\nskew_s = -1", "commands.skew_s", ">= 0"),
        ("[commands]\nlifetime_s = 0", "commands.lifetime_s", ">= 1"),
        ("[[commands.keys]]\npath = 'a'", "commands.keys[0]", "verbs"),
        ("[[commands.keys]]\npath = 'a'\nverbs = []", "commands.keys[0].verbs", ">= 1"),
        (
            "[[commands.keys]]\npath = 'a'\nverbs = ['stop']",
            "commands.keys[0].verbs[0]",
            "Invalid enum value",
        ),
        ("[[commands.keys]]\npath = ''\nverbs = ['pause']", "commands.keys[0].path", "a path"),
        ("[[commands.keys]]\nverb = ['pause']", "commands.keys[0].verb", "did you mean verbs?"),
        ("[mqtt]\nkeepalive_s = 0", "mqtt.keepalive_s", ">= 2"),
        ("[mqtt]\nurl = 'http://x'", "mqtt.url", "mqtt://HOST"),
        ("[mqtt]\nurl = 'mqtt://me:geheim@x'", "mqtt.url", "password_file"),
        ('[mqtt]\nclient_id = "a\\u0000b"', "mqtt.client_id", "control"),
        ("[mqtt]\nclient_id = '" + "x" * 200 + "'", "mqtt.client_id", "longer"),
        ("[mqtt]\npassword_env = 'X'", "mqtt", "without username"),
        ("[mqtt]\nreconnect_max_s = 0.1", "mqtt", "shorter"),
        ("[mqtt]\nprotocol = '4'", "mqtt.protocol", "Invalid enum value"),
    ],
)
def test_a_wrong_key_is_named_by_its_path(
    read: Callable[[str], StationConfiguration], change: str, path: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"station\.toml") as caught:
        read(GOOD + change)
    assert caught.value.path == path
    assert words in str(caught.value)
    assert path in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('site = "plant1"', 'site = "plant/1"', "station.site"),
        ('line = "line3"', 'line = "+"', "station.line"),
        ('name = "aoi1"', 'name = "aoi#"', "station.name"),
        ('name = "aoi1"', 'name = ""', "station.name"),
        ('name = "aoi1"', 'name = "a\\u0007"', "station.name"),
        ('name = "aoi1"', f'name = "{"x" * 65}"', "station.name"),
        ('name = "aoi1"\n', "", "station"),
        ('kind = "folder"', 'kind = "scanner"', "source.kind"),
        ('kind = "folder"', "kind = 3", "source.kind"),
        ('kind = "folder"\n', "", "source"),
        ('kind = "folder"', 'kind = "camera"', "source.path"),
        ('path = "frames"', 'path = "frames"\naddress = 0', "source.address"),
        ('path = "frames"', 'path = "frames"\n[trigger]\nkind = "gpio"', "trigger.kind"),
        ('path = "frames"', 'path = "frames"\n[trigger]\nkind = "free"\nport = 1', "trigger.port"),
        ('path = "frames"', 'path = "frames"\n[trigger]\nkind = "mqtt"', "trigger.match"),
        ('path = "frames"', 'path = "frames"\n[trigger]\nkind = "serial"', "trigger"),
        ('path = "joint.lsb"', 'path = "joint.lsb"\nengine = "tensorrt"', "bundle.engine"),
        ('path = "joint.lsb"', 'path = "joint.lsb"\nthreads = 0', "bundle.threads"),
        ('path = "frames"', 'path = "frames"\npart_id = "x"', "source"),
        ('path = "frames"', 'path = "frames"\nwatch = 1', "source.watch"),
        ('path = "frames"', 'path = "a\\u0000b"', "source.path"),
        ('path = "joint.lsb"', 'path = "a\\u0000b"', "bundle.path"),
        ('path = "frames"', 'path = "frames"\n[outbox]\npath = "a\\u0000b"', "outbox.path"),
        ('path = "frames"', 'path = "frames"\n[mqtt]\nurl = "mqtt://a..b"', "mqtt.url"),
        ('path = "frames"', 'path = "frames"\n[mqtt]\nack_timeout_s = nan', "mqtt.ack_timeout_s"),
        ('path = "frames"', f'path = "frames"\n[mqtt]\nusername = "{"x" * 70_000}"', "mqtt"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(
    read: Callable[[str], StationConfiguration], old: str, new: str, path: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        read(GOOD.replace(old, new))
    assert caught.value.path == path


def test_what_is_no_file_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_configuration(tmp_path / "none.toml")
    file = tmp_path / "bad.toml"
    file.write_bytes(b"[station\n")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read_configuration(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read_configuration(file)


@pytest.mark.timeout(20)
def test_a_pipe_a_giant_and_a_deep_nest_are_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "station.toml"
    os.mkfifo(file)
    with pytest.raises(ConfigurationError, match="not a file"):
        read_configuration(file)
    file.unlink()
    file.touch()
    os.truncate(file, 2**40)  # a hole: it takes no room on the disk
    with pytest.raises(ConfigurationError, match="at most"):
        read_configuration(file)
    os.truncate(file, 0)
    file.write_text(f"x = {'[' * 5000}")
    with pytest.raises(ConfigurationError, match="too deeply"):
        read_configuration(file)


def test_a_byte_order_mark_is_no_fault(
    read: Callable[[str], StationConfiguration],
) -> None:
    assert read("\ufeff" + GOOD) == read(GOOD)


@pytest.mark.parametrize("password", ["x" * 70_000, "\udcff"])
def test_a_password_that_mqtt_cannot_carry_is_refused_and_not_told(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", password)
    settings = MqttSettings(username="aoi1", password_env="BROKER_PASSWORD")
    with pytest.raises(ConfigurationError, match="the password is") as caught:
        settings.read_password()
    assert password not in str(caught.value)


@given(st.text(max_size=12))
def test_a_topic_is_either_refused_or_comes_back_whole(part: str) -> None:
    try:
        check_topic_part(part, path="station.name")
    except ConfigurationError:
        return
    topics = StationTopics(site="s", line="l", station=part)
    assert parse_topic(topics.verdict) == (topics, "verdict")
    assert parse_topic(topics.state) == (topics, "state")


@pytest.mark.parametrize(
    "topic", ["lineside/v1/a/b/verdict", "lineside/v2/a/b/c/verdict", "lineside/v1/a/b/c/cmd", ""]
)
def test_other_topics_are_not_ours(topic: str) -> None:
    assert parse_topic(topic) is None


@pytest.mark.parametrize("kind", KINDS)
def test_all_topics_of_a_station_are_known(kind: str) -> None:
    found = parse_topic(f"lineside/v1/a/b/c/{kind}")
    assert found == (StationTopics(site="a", line="b", station="c"), kind)


def test_every_key_stands_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "station.md").read_text(encoding="utf-8")
    for section in msgspec.structs.fields(StationConfiguration):
        assert f"[{section.name}]" in text
        rows = text.split(f"### `[{section.name}]`")[1].split("\n### ")[0]
        for kind in sections_in(section.type):
            for field in msgspec.structs.fields(kind):
                assert f"| `{field.name}` |" in rows, f"{section.name}.{field.name}"
            if tag := kind.__struct_config__.tag:
                assert f'`"{tag}"`' in rows, f"{section.name}.kind = {tag}"


TWO = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[[bundle]]
path = "led.lsb"
[[bundle.regions]]
name = "J1"
x0_px = 0
y0_px = 0
x1_px = 8
y1_px = 8
[[bundle]]
path = "/opt/diode.lsb"
limits = { ok = 0.3, override = "x.override" }
[source]
kind = "folder"
path = "frames"
"""


def test_a_store_in_the_place_of_a_bundle_and_how_its_bundles_are_tried(
    read: Callable[[str], StationConfiguration], tmp_path: Path
) -> None:
    text = GOOD.replace('path = "joint.lsb"', 'store = "slots"')
    (bundle,) = read(text).bundles
    assert (bundle.path, bundle.store, bundle.place) == (None, tmp_path / "slots", bundle.store)
    assert bundle.trial == TrialSettings()
    trial = read(text + "[bundle.trial]\nparts = 0\nminutes = 2.5\nhang_s = 5").bundles[0].trial
    assert (trial.parts, trial.minutes, trial.confirm, trial.hang_s) == (0, 2.5, "rule", 5.0)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("", "bundle.path", "name the bundle, or a store of slots"),
        ('path = "a"\nstore = "b"', "bundle.store", "give one of them"),
        ('path = "a"\ntrial = { parts = 5 }', "bundle.trial", "name one as bundle.store"),
        ('store = "b"\ntrial = { part = 5 }', "bundle.trial.part", "did you mean parts?"),
        ('store = "b"\ntrial = { parts = -1 }', "bundle.trial.parts", ">= 0"),
        ('store = "b"\ntrial = { max_disagree = 1.1 }', "bundle.trial.max_disagree", "<= 1"),
        ('store = "b"\ntrial = { confirm = "never" }', "bundle.trial.confirm", "Invalid enum"),
        ('store = "b"\ntrial = { parts = 0, minutes = 0 }', "bundle.trial", "never end"),
        ('store = ""', "bundle.store", "expected a path"),
    ],
)
def test_what_is_wrong_with_a_store_is_named_by_its_path(
    read: Callable[[str], StationConfiguration], text: str, path: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(GOOD.replace('path = "joint.lsb"', text, 1))
    assert caught.value.path == path
    assert words in str(caught.value)


def test_two_bundles_on_one_store_are_refused(
    read: Callable[[str], StationConfiguration],
) -> None:
    two = TWO.replace('path = "led.lsb"', 'store = "slots"', 1)
    assert read(two).bundles[0].store is not None
    with pytest.raises(ConfigurationError, match="two bundles have") as caught:
        read(two.replace('path = "/opt/diode.lsb"', 'store = "other/../slots/"'))
    assert caught.value.path == "bundle.store"


def test_every_key_of_a_trial_stands_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "station.md").read_text(encoding="utf-8")
    rows = text.split("`[bundle.trial]`, only with")[1].split("\n\n**")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", rows, re.M))
    fields = msgspec.structs.fields(TrialSettings)
    assert list(told) == [field.name for field in fields]
    for field in fields:
        default = f'"{field.default}"' if isinstance(field.default, str) else f"{field.default:g}"
        assert told[field.name] == default


def test_several_bundles_each_with_regions_and_limits_of_its_own(
    read: Callable[[str], StationConfiguration], tmp_path: Path
) -> None:
    configuration = read(TWO)
    led, diode = configuration.bundles
    assert (led.path, diode.path) == (tmp_path / "led.lsb", Path("/opt/diode.lsb"))
    assert [region.name for region in led.regions] == ["J1"]
    assert configuration.limits_of(led) == LimitSettings()
    assert configuration.limits_of(diode).ok == 0.3
    assert configuration.limits_of(diode).override == tmp_path / "x.override"


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ('path = "led.lsb"', 'pth = "led.lsb"', "bundle[0].pth", "did you mean path?"),
        ("y1_px = 8", "y1_pixels = 8", "bundle[0].regions[0].y1_pixels", "did you mean y1_px?"),
        ("ok = 0.3,", "okay = 0.3,", "bundle[1].limits.okay", "did you mean ok?"),
        ("x1_px = 8", "x1_px = 0", "bundle[0].regions[0]", "region 'J1' is empty"),
        ("[source]", "[limits]\nok = 1\n[source]", "limits", "of which bundle?"),
        (
            '[[bundle]]\npath = "/opt',
            "[[bundle.regions]]\nname='J1'\nx0_px=0\ny0_px=0\nx1_px=1\ny1_px=1\n"
            '[[bundle]]\npath = "/opt',
            "bundle.regions",
            "two are called 'J1'",
        ),
        (
            "[source]",
            "[pace]\ndeadline_ms = 5\ndeadline_lead_ms = 10\n[source]",
            "pace",
            "deadline_lead_ms 10 leaves nothing of deadline_ms 5",
        ),
    ],
)
def test_what_is_wrong_with_several_is_named_by_its_path(
    read: Callable[[str], StationConfiguration], old: str, new: str, path: str, words: str
) -> None:
    assert old in TWO
    with pytest.raises(ConfigurationError) as caught:
        read(TWO.replace(old, new, 1))
    assert caught.value.path == path
    assert words in str(caught.value)


def test_a_station_without_a_bundle_is_refused(
    read: Callable[[str], StationConfiguration],
) -> None:
    text = "bundle = []\n" + GOOD.replace('[bundle]\npath = "joint.lsb"', "[mqtt]")
    with pytest.raises(ConfigurationError, match="bundle: names none"):
        read(text.replace('trust = ["factory.pub", "/etc/keys"]', ""))


@pytest.mark.parametrize(
    ("source", "trigger", "refused"),
    [
        ('kind = "folder"\npath = "frames"', "", False),
        ('kind = "camera"\naddress = 0', "", True),
        ('kind = "camera"\naddress = 0', '[trigger]\nkind = "mqtt"\n', True),
        (
            'kind = "folder"\npath = "frames"\nwatch = true',
            '[trigger]\nkind = "mqtt"\nmatch = "part"\nframe_timeout_ms = 1000\n',
            True,
        ),
    ],
)
def test_parts_that_wait_where_the_deadline_does_not_see_them_are_refused(
    read: Callable[[str], StationConfiguration], source: str, trigger: str, refused: bool
) -> None:
    text = GOOD.replace('kind = "folder"\npath = "frames"', source) + f"\n{trigger}"
    assert read(f'{text}[pace]\npolicy = "block"\n').pace.policy == "block"
    assert read(f"{text}[pace]\ndeadline_ms = 5000\n").pace.deadline_ms == 5000
    both = f'{text}[pace]\npolicy = "block"\ndeadline_ms = 5000\n'
    if not refused:
        assert read(both).pace.deadline_ms == 5000
        return
    with pytest.raises(ConfigurationError, match="policy: with") as caught:
        read(both)
    assert caught.value.path == "pace.policy"


@pytest.mark.parametrize(
    ("text", "lead_ms"),
    [("deadline_ms = 300", 30.0), ("deadline_ms = 60", 20.0), ("deadline_lead_ms = 0", 0.0)],
)
def test_how_long_before_its_deadline_a_part_is_given_up(
    read: Callable[[str], StationConfiguration], text: str, lead_ms: float
) -> None:
    assert read(f"{GOOD}[pace]\n{text}").pace.lead_ms == lead_ms
