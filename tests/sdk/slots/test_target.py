"""For which hardware a bundle is taken: this machine's words against the sealed one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lineside.errors import ConfigurationError, TargetError
from lineside.installing.target import check_target, machine_targets


def told(tmp_path: Path, text: str) -> tuple[str, ...]:
    file = tmp_path / "target"
    file.write_text(text, "utf-8")
    return machine_targets(file, {})


def test_a_machine_that_was_told_nothing_is_a_cpu(tmp_path: Path) -> None:
    assert machine_targets(tmp_path / "target", {}) == ("cpu",)
    assert machine_targets(tmp_path / "target", {"LINESIDE_TARGET": ""}) == ("cpu",)
    (tmp_path / "file").touch()
    assert machine_targets(tmp_path / "file" / "target", {}) == ("cpu",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jetson\n", ("jetson",)),
        ("# the box of line 3\njetson, cpu  # it computes on either\r\ncpu", ("jetson", "cpu")),
    ],
)
def test_the_file_s_words_take_its_place(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    assert told(tmp_path, text) == words


def test_the_variable_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("jetson", "utf-8")
    assert machine_targets(tmp_path / "target", {"LINESIDE_TARGET": "npu cpu"}) == ("npu", "cpu")


@pytest.mark.parametrize("text", ["", "# nothing\n", "Jetson", "jetson;cpu", "a" * 65, "\x00"])
def test_what_is_no_word_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="lineside export --target"):
        told(tmp_path, text)


def test_what_cannot_be_read_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"cpu " * 5000)
    for name in ("folder", "pipe", "long"):
        with pytest.raises(ConfigurationError, match=name):
            machine_targets(tmp_path / name, {})


@pytest.mark.parametrize("targets", [("cpu",), ("jetson", "cpu")])
@pytest.mark.parametrize("sealed", ["any", "cpu"])
def test_what_was_made_for_this_machine_is_taken(sealed: str, targets: tuple[str, ...]) -> None:
    check_target(sealed, targets, source="a.lsb")


def test_what_was_made_for_another_is_refused_with_the_remedy() -> None:
    with pytest.raises(TargetError) as refusal:
        check_target("npu", ("jetson", "cpu"), source="a.lsb")
    assert (refusal.value.expected, refusal.value.actual) == ("npu", "jetson, cpu")
    assert refusal.value.exit_code == 5
    for words in ("a.lsb: was made for npu", "/etc/lineside/target", "LINESIDE_TARGET"):
        assert words in str(refusal.value)
