"""`stations.toml`: strict, and every refusal says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineside.errors import ConfigurationError
from lineside.fleet import StationsFile, pick, read_stations

WHOLE = """
stations = [
    "hall/line-1/cell-1",
    { name = "hall/line-1/cell-2", tags = ["left", "old camera"] },
]

[mqtt]
url = "mqtts://broker.example:8883"
username = "operator"
password_file = "operator.password"
ca_file = "/etc/ssl/hall.pem"
"""


def read(folder: Path, text: str) -> StationsFile:
    file = folder / "stations.toml"
    file.write_text(text, "utf-8")
    return read_stations(file)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text)
    assert str(folder / "stations.toml") in str(caught.value)
    return str(caught.value)


def test_names_alone_and_names_with_tags_in_the_files_order(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)

    assert [entry.name for entry in found.entries] == ["hall/line-1/cell-1", "hall/line-1/cell-2"]
    assert found.entries[1].tags == ("left", "old camera")
    assert found.entries[0].topics.state == "lineside/v1/hall/line-1/cell-1/state"


def test_relative_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    mqtt = read(tmp_path, WHOLE).mqtt

    assert mqtt.password_file == tmp_path / "operator.password"
    assert mqtt.ca_file == Path("/etc/ssl/hall.pem")
    assert mqtt.cert_file is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stations = []", "names none"),
        ("", "missing required field `stations`"),
        ('stations = ["hall/cell-1"]', "site/line/name"),
        ('stations = ["hall/line/cell/1"]', "site/line/name"),
        ('stations = ["hall/+/cell"]', "'+'"),
        ('stations = ["hall//cell"]', "empty"),
        ('stations = ["a/b/c", "a/b/d", "a/b/c"]', "a/b/c stands twice"),
        ('stations = [{ name = "a/b/c", tag = "x" }]', "unknown field `tag`"),
        ('stations = [{ name = "a/b/c", tags = [" "] }]', "tag ' '"),
        ("stations = [1]", "stations[0]"),
        ('[mqtt]\nstations = ["a/b/c"]', "above [mqtt]"),
        ('stations = ["a/b/c"]\n[mqtt]\nurl = "http://x"', "mqtt://HOST:PORT"),
        ('stations = ["a/b/c"]\n[mqtt]\npassword = "x"', "unknown field `password`"),
        ('stations = ["a/b/c"]\n[mqtt]\nca_file = 3', "mqtt.ca_file"),
        ("stations = [", "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: No such file"):
        read_stations(tmp_path / "none.toml")


def test_tags_pick_stations_that_have_one_of_them(tmp_path: Path) -> None:
    entries = read(tmp_path, WHOLE).entries

    assert pick(entries, ()) == entries
    assert pick(entries, ("left",)) == entries[1:]


def test_a_tag_that_nobody_has_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--tag right.*left, old camera"):
        pick(read(tmp_path, WHOLE).entries, ("left", "right"))
