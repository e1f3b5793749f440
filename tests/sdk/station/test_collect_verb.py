"""`lineside collect` on a real outbox, beside the station that writes it."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from command_line import call, refuse, succeed

from lineside.errors import ConfigurationError, InputDataError, StorageError
from lineside.frame import Frame
from lineside.kept import KeepSettings, disposition_note
from lineside.mqtt.commands import DispositionCommand
from lineside.outbox import Draft, Late, Outbox, OutboxSettings, Stamp
from lineside.outbox.entry import JournalEntry, encode_entry
from lineside.sources import Capture
from lineside.station.keeping import FrameKeeper
from lineside.verdict import Evaluation, Reason, Verdict

T0_NS = 1_795_212_345_678 * 1_000_000
DAY_NS = 24 * 3600 * 10**9
STATION = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "joint.lsb"
[source]
kind = "folder"
path = "frames"
[keep]
path = "kept"
keep_free_mib = 0
"""


class Line:
    """What a station does with a part, as far as `collect` sees it."""

    def __init__(self, folder: Path) -> None:
        self.ids: list[str] = []
        self.outbox = Outbox(OutboxSettings(path=folder / "outbox.sqlite"))
        self.keeper = FrameKeeper(KeepSettings(path=folder / "kept", keep_free_mib=0))
        self.keeper.start()

    def judge(self, number: int, *, at_ns: int, reason: Reason = Reason.BETWEEN_LIMITS) -> None:
        verdict = Verdict(
            evaluation=Evaluation.NOT_DECIDABLE, reason=reason, score=0.5, limit=0.6, model="m" * 16
        )
        turn, part = f"{number:016x}", f"p{number}"
        entry = JournalEntry(
            turn=turn,
            part=part,
            evaluation=int(verdict.evaluation),
            reason=verdict.reason.value,
            score=0.5,
            taken_unix_ns=at_ns,
            bundle="b" * 64,
        )
        draft = Draft(encode=self._remember, entry=encode_entry(entry))
        assert self.outbox.put(draft, stopping=threading.Event())
        frame = Frame(pixels_hwc=np.full((8, 8, 1), number, np.uint8))
        capture = Capture(part_id=part, taken_unix_ns=at_ns, taken_ns=0, read_us=0.0, frame=frame)
        self.keeper.offer(capture, verdict, turn=turn)
        if reason is Reason.DEADLINE:
            late = msgspec.structs.replace(entry, evaluation=2, score=0.9, late=True)
            assert self.outbox.put_late(Late(turn=turn, entry=encode_entry(late)))

    def _remember(self, stamp: Stamp) -> bytes:
        self.ids.append(stamp.job_id)
        return b"{}"

    def settle(self) -> None:
        self.keeper.stop(10)
        assert self.outbox.flush(10)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    (tmp_path / "station.toml").write_text(STATION, "utf-8")
    made = Line(tmp_path)
    yield made
    made.outbox.close()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(line: Line) -> None:
    """Four parts on four days; a human spoke of the first two, and of one that is not there."""
    for number in range(4):
        reason = Reason.DEADLINE if number == 3 else Reason.BETWEEN_LIMITS
        line.judge(number, at_ns=T0_NS + number * DAY_NS, reason=reason)
    line.settle()
    commands = (
        DispositionCommand(verdict=line.ids[1], evaluation=2, defect="void"),
        DispositionCommand(part="p0", evaluation=1),
        DispositionCommand(part="p77", evaluation=1),
    )
    for command in commands:
        assert line.outbox.note(disposition_note(command, heard_unix_ns=T0_NS + 9 * DAY_NS))
    assert line.outbox.flush(10)


def test_a_folder_is_made_while_the_station_holds_its_outbox(line: Line, tmp_path: Path) -> None:
    fill(line)
    done = succeed("collect", tmp_path / "station.toml", "--out", tmp_path / "out")
    assert f"{tmp_path / 'out'}: 4 image(s) of 4 part(s): 3 undecided, 1 fault" in done.stdout
    assert "reviewed: 1 OK, 1 NOT_OK" in done.stdout
    assert "1 disposition(s) are about parts of which no frame is kept" in done.stdout
    assert "--target disposition" in done.stdout
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == line.ids
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["disposition"] for row in rows] == ["OK", "NOT_OK", "", ""]
    assert [row["defect"] for row in rows] == ["ok", "void", "", ""]
    assert (rows[3]["reason"], rows[3]["late_evaluation"]) == ("deadline", "NOT_OK")
    document = json.loads((tmp_path / "out" / "collected.json").read_text())
    assert document["from"]["outbox"] == str(tmp_path / "outbox.sqlite")


def test_json_only_some_and_since(line: Line, tmp_path: Path) -> None:
    fill(line)
    paths = ("--outbox", tmp_path / "outbox.sqlite", "--kept", tmp_path / "kept")
    said = json.loads(
        succeed("collect", *paths, "--out", tmp_path / "a", "--only", "reviewed", "--json").stdout
    )
    assert (said["images"], said["passed_over"]) == (2, 2)
    assert said["dispositions"] == {"OK": 1, "NOT_OK": 1}
    succeed("collect", *paths, "--out", tmp_path / "b", "--since", "2026-11-22")
    assert [row["part"] for row in rows_of(tmp_path / "b")] == ["p2", "p3"]
    succeed("collect", *paths, "--out", tmp_path / "c", "--since", "2026-11-22T22:05:46")
    assert [row["part"] for row in rows_of(tmp_path / "c")] == ["p3"]
    told = refuse(
        InputDataError, "collect", *paths, "--out", tmp_path / "d", "--since", "2027-01-01"
    )
    assert "no frame to collect; 4 are not among those asked for" in told
    assert not (tmp_path / "d").exists()


def test_a_frame_that_the_journal_does_not_know_is_told_and_comes(
    line: Line, tmp_path: Path
) -> None:
    """As after a power cut between the two disks' writes."""
    fill(line)
    strange = Capture(
        part_id="lost",
        taken_unix_ns=T0_NS,
        taken_ns=0,
        read_us=0.0,
        frame=Frame(pixels_hwc=np.zeros((8, 8, 1), np.uint8)),
    )
    keeper = FrameKeeper(KeepSettings(path=tmp_path / "kept", keep_free_mib=0))
    verdict = Verdict(evaluation=Evaluation.NOT_DECIDABLE, reason=Reason.BETWEEN_LIMITS, score=0.5)
    keeper.offer(strange, verdict, turn="f" * 16)
    keeper.start()
    keeper.stop(10)
    done = succeed("collect", tmp_path / "station.toml", "--out", tmp_path / "out")
    assert "1 frame(s) are not in the journal" in done.stdout
    (row,) = [row for row in rows_of(tmp_path / "out") if not row["id"]]
    assert (row["part"], row["score"]) == ("lost", "0.5")


def test_what_cannot_be_collected_is_told(line: Line, tmp_path: Path) -> None:
    station, out = tmp_path / "station.toml", tmp_path / "out"
    (tmp_path / "kept").mkdir()
    told = refuse(InputDataError, "collect", station, "--out", out)
    assert "no frame to collect" in told
    fill(line)
    out.mkdir()
    succeed("collect", station, "--out", out)
    again = call("collect", station, "--out", out)
    assert again.exit_code == 2
    assert "not empty" in again.output
    assert "not empty" in call("collect", station, "--out", station).output
    assert call("collect", "--out", tmp_path / "x").exit_code == 2
    station.write_text(STATION.partition("[keep]")[0], "utf-8")
    assert "has no keep.path" in call("collect", station, "--out", tmp_path / "x").output
    absent = ("--outbox", tmp_path / "absent.sqlite", "--kept", tmp_path / "kept")
    refuse(StorageError, "collect", *absent, "--out", tmp_path / "x")
    station.write_text("[station]\n", "utf-8")
    refuse(ConfigurationError, "collect", station, "--out", tmp_path / "x")
