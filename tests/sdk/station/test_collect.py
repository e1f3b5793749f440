"""From the ring and the journal to a folder that the trainer reads."""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import FrameError, InputDataError, StorageError
from lineside.frame import Pixels, read_frame
from lineside.kept import (
    COLUMNS,
    Collection,
    Disposition,
    JournalRow,
    KeptFacts,
    collect,
    decode_disposition,
    disposition_note,
    write_collection,
)
from lineside.kept.dispositions import Inspected, settle
from lineside.kept.facts import encode_kept
from lineside.mqtt.commands import DispositionCommand
from lineside.mqtt.payload import wire_part_id
from lineside.outbox.entry import JournalEntry, RegionEntry
from lineside.verdict import Region

T0_NS = 1_795_212_345_678 * 1_000_000
SECOND = 1_000_000_000


def turn(number: int) -> str:
    return f"{number:016x}"


def job_id(number: int) -> str:
    return f"0badcafe{number:010x}"


class MemoryJournal:
    """A journal as `collect` needs one."""

    def __init__(self) -> None:
        self.entries: list[JournalRow] = []
        self.late_entries: list[JournalEntry] = []
        self.bodies: list[bytes] = []

    def rows(self) -> Iterator[JournalRow]:
        yield from self.entries

    def late(self) -> Iterator[JournalEntry]:
        yield from self.late_entries

    def notes(self, kind: str) -> Iterator[bytes]:
        yield from self.bodies if kind == "disposition" else ()

    def add(self, number: int, part: str, **more: Any) -> None:
        entry = JournalEntry(
            turn=turn(number),
            part=part,
            taken_unix_ns=T0_NS + number * SECOND,
            bundle="b" * 64,
            **{"evaluation": 3, "reason": "between_limits", **more},
        )
        self.entries.append(JournalRow(seq=number + 1, job_id=job_id(number), entry=entry))

    def say(self, at_s: float, **more: Any) -> None:
        command = DispositionCommand(**{"evaluation": 2, **more})
        heard = T0_NS + int(at_s * SECOND)
        self.bodies.append(disposition_note(command, heard_unix_ns=heard).body)


def keep(
    ring: Path, number: int, part: str, *, pixels: Pixels | None = None, **more: Any
) -> KeptFacts:
    ring.mkdir(exist_ok=True)
    facts = KeptFacts(
        turn=turn(number),
        part=part,
        taken_unix_ns=T0_NS + number * SECOND,
        model="b" * 16,
        **{"evaluation": 3, "reason": "between_limits", "why": ("undecided",), **more},
    )
    if pixels is None:
        pixels = np.full((8, 8, 1), number, np.uint8)
    (ring / facts.name).write_bytes(encode_kept(pixels, facts))
    return facts


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What humans say.


def test_a_disposition_becomes_a_note_and_comes_back() -> None:
    command = DispositionCommand(
        id="c1", part="LED 7 ü", evaluation=2, defect="crack", by="J. Doe", note="left pad"
    )
    note = disposition_note(command, heard_unix_ns=5)
    assert note.kind == "disposition"
    assert decode_disposition(note.body) == Disposition(
        heard_unix_ns=5,
        id="c1",
        part="LED 7 ü",
        evaluation=2,
        defect="crack",
        by="J. Doe",
        note="left pad",
    )
    by_id = DispositionCommand(verdict=job_id(1), evaluation=1)
    assert decode_disposition(disposition_note(by_id, heard_unix_ns=5).body).verdict == job_id(1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"verdict": "17"}, "verdict '17': 18 hex digits"),
        ({"verdict": job_id(1).upper()}, "18 hex digits"),
        ({"part": "p", "evaluation": 1, "defect": "crack"}, "a part that is OK has none"),
        ({"part": "p", "defect": "OK"}, "a part that is OK has none"),
    ],
)
def test_a_disposition_that_says_nothing_clear_is_refused_by_field(
    fields: dict[str, Any], words: str
) -> None:
    command = DispositionCommand(**{"evaluation": 2, **fields})
    with pytest.raises(InputDataError, match=words):
        disposition_note(command, heard_unix_ns=0)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"evaluation": "x"}'])
def test_a_note_that_is_no_disposition_is_refused(body: bytes) -> None:
    with pytest.raises(InputDataError, match="no disposition"):
        decode_disposition(body)


def told(events: str) -> dict[int, int]:
    """``IIDD``: which disposition holds for which inspection of one part, by place."""
    inspected = [
        Inspected(turn=turn(at), job_id=job_id(at), part="p", taken_unix_ns=at)
        for at, event in enumerate(events)
        if event == "I"
    ]
    spoken = [
        Disposition(heard_unix_ns=at, part="p", evaluation=2)
        for at, event in enumerate(events)
        if event == "D"
    ]
    holding = settle(inspected[::-1], spoken[::-1])
    return {int(found, 16): said.heard_unix_ns for found, said in holding.items()}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("I", {}),
        ("D", {}),
        ("DI", {}),
        ("ID", {0: 1}),
        ("IDD", {0: 2}),
        ("IIID", {0: 3, 1: 3, 2: 3}),
        ("IIDDIDI", {0: 3, 1: 3, 4: 5}),
    ],
)
def test_a_word_on_a_part_holds_for_what_came_since_the_word_before(
    events: str, expected: dict[int, int]
) -> None:
    assert told(events) == expected


@given(st.text("ID", max_size=12))
def test_no_word_is_older_than_what_it_is_about_and_rework_changes_nothing(events: str) -> None:
    holding = told(events)
    assert all(said > taken for taken, said in holding.items())
    for said in holding.values():
        assert not events[said + 1 :].startswith("D")  # the last of several
    assert told(events + "ID").items() >= holding.items() or events.endswith("D")
    assert told("DD" + events).keys() == {taken + 2 for taken in holding}


def test_of_a_word_on_the_verdict_and_one_on_the_part_the_later_one_holds() -> None:
    one = Inspected(turn=turn(1), job_id=job_id(1), part="p", taken_unix_ns=1)
    by_id = Disposition(heard_unix_ns=5, verdict=job_id(1), evaluation=1)
    by_part = Disposition(heard_unix_ns=7, part="p", evaluation=2)
    assert settle([one], [by_part, by_id]) == {turn(1): by_part}
    later = msgspec.structs.replace(by_id, heard_unix_ns=9)
    assert settle([one], [by_id, by_part, later]) == {turn(1): later}


def test_a_part_is_known_by_what_the_line_calls_it_too() -> None:
    long = "a part with a name that is longer than the wire allows"
    one = Inspected(turn=turn(1), job_id="", part=long, taken_unix_ns=1)
    said = Disposition(heard_unix_ns=2, part=wire_part_id(long), evaluation=1)
    assert settle([one], [said]) == {turn(1): said}
    nameless = Inspected(turn=turn(2), job_id="", part="", taken_unix_ns=1)
    assert settle([nameless], [said]) == {}


# The folder.


def test_images_verdicts_and_dispositions_come_together(tmp_path: Path) -> None:
    ring, journal = tmp_path / "kept", MemoryJournal()
    journal.add(0, "p0", evaluation=1, reason="within_limit", score=0.1, limit=0.5, unit="K/W")
    journal.add(1, "p1", score=0.55, limit=0.6)
    journal.add(2, "p2")  # of which no frame was kept
    journal.add(3, "", reason="deadline")
    journal.late_entries.append(JournalEntry(turn=turn(3), evaluation=2, score=0.9, late=True))
    journal.late_entries.append(JournalEntry(turn=turn(2), evaluation=2, score=0.9, late=True))
    for number, part in ((0, "p0"), (1, "p1")):
        keep(ring, number, part, why=("near", "share") if number == 0 else ("undecided",))
    keep(ring, 3, "", why=("fault",))
    keep(ring, 4, 'unknown "to", the journal\n', score=0.57)  # a crash between both
    (ring / "notes.txt").write_text("a stranger's")
    journal.say(10, part="p0", evaluation=1, by="J. Doe", note="clean; yes, clean")
    journal.say(11, verdict=job_id(1), defect="crack")
    journal.say(12, part="p2")
    journal.bodies.append(b"of a version to come")
    collection = collect(ring, journal)
    assert (collection.dispositions, collection.unused, collection.strange) == (3, 1, 1)
    assert (collection.without_row, collection.reviewed) == (1, 2)
    summary = write_collection(collection, tmp_path / "out", told={"kept": str(ring)})
    assert (summary.images, summary.parts) == (4, 4)
    assert summary.why == {"near": 1, "share": 1, "undecided": 2, "fault": 1}
    assert summary.dispositions == {"OK": 1, "NOT_OK": 1}
    first, second, third, fourth = rows_of(tmp_path / "out")
    assert tuple(first) == COLUMNS
    assert first == {
        "file": f"images/1795212345678_near_p0_{turn(0)}.frame.png",
        "part": "p0",
        "product": "",
        "region": "",
        "evaluation": "OK",
        "reason": "within_limit",
        "score": "0.1",
        "limit": "0.5",
        "unit": "K/W",
        "bundle": "b" * 16,
        "taken": "2026-11-20T22:05:45.678Z",
        "turn": turn(0),
        "seq": "1",
        "id": job_id(0),
        "why": "near share",
        "late_evaluation": "",
        "late_score": "",
        "disposition": "OK",
        "defect": "ok",
        "part_disposition": "OK",
        "by": "J. Doe",
        "note": "clean; yes, clean",
        "reviewed": "2026-11-20T22:05:55.678Z",
    }
    assert (second["disposition"], second["defect"]) == ("NOT_OK", "crack")
    assert (third["part"], third["id"]) == (f"turn-{turn(3)}", job_id(3))
    assert (third["late_evaluation"], third["late_score"]) == ("NOT_OK", "0.9")
    assert (third["disposition"], third["reason"]) == ("", "deadline")
    assert (fourth["part"], fourth["id"]) == ('unknown "to", the journal\\n', "")
    assert (fourth["evaluation"], fourth["score"]) == ("NOT_DECIDABLE", "0.57")
    pixels = read_frame(tmp_path / "out" / second["file"]).pixels_hwc
    np.testing.assert_array_equal(pixels, np.full((8, 8, 1), 1, np.uint8))
    document = json.loads((tmp_path / "out" / "collected.json").read_text())
    assert document["from"] == {"kept": str(ring)}
    assert document["unused_dispositions"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out"]


def test_only_some_and_since_a_day(tmp_path: Path) -> None:
    ring, journal = tmp_path / "kept", MemoryJournal()
    for number, why in enumerate((("undecided",), ("near", "share"), ("fault",), ("drifting",))):
        keep(ring, number, f"p{number}", why=why)
        journal.add(number, f"p{number}")
    journal.say(9, part="p2")

    def chosen(**more: Any) -> list[str]:
        return [frame.part for frame in collect(ring, journal, **more).frames]

    assert chosen() == ["p0", "p1", "p2", "p3"]
    assert chosen(only=("reviewed",)) == ["p2"]
    assert chosen(only=("share", "reviewed")) == ["p1", "p2"]
    assert chosen(only=("undecided",), since_unix_ns=T0_NS + 1) == []
    assert chosen(since_unix_ns=T0_NS + 2 * SECOND) == ["p2", "p3"]
    assert collect(ring, journal, only=("near",)).passed_over == 3


def test_rework_between_two_looks_counts_though_no_frame_of_it_was_kept(tmp_path: Path) -> None:
    ring, journal = tmp_path / "kept", MemoryJournal()
    keep(ring, 1, "p")
    journal.add(1, "p")
    journal.say(2, part="p", evaluation=2, defect="void")
    journal.add(3, "p", evaluation=1)  # repaired, and clearly good: not kept
    journal.say(4, part="p", evaluation=1)
    (frame,) = collect(ring, journal).frames
    assert frame.disposition is not None
    assert (frame.disposition.evaluation, frame.disposition.defect) == (2, "void")


REGIONS = (
    RegionEntry(name="U1", region=Region(x0_px=0, y0_px=0, x1_px=4, y1_px=8), evaluation=1),
    RegionEntry(
        name="U2",
        region=Region(x0_px=4, y0_px=0, x1_px=8, y1_px=8),
        evaluation=3,
        reason="between_limits",
        score=0.5,
    ),
)


def collect_regions(tmp_path: Path, evaluation: int, regions: Sequence[RegionEntry]) -> Any:
    ring, journal = tmp_path / "kept", MemoryJournal()
    pixels = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 300
    keep(ring, 1, "p", pixels=pixels, regions=tuple(regions))
    journal.add(1, "p", regions=tuple(regions))
    journal.say(2, part="p", evaluation=evaluation)
    write_collection(collect(ring, journal), tmp_path / "out")
    return pixels, rows_of(tmp_path / "out")


def test_of_several_regions_each_becomes_an_image_as_the_model_saw_it(tmp_path: Path) -> None:
    pixels, (first, second) = collect_regions(tmp_path, 2, REGIONS)
    assert (first["region"], first["evaluation"], first["score"]) == ("U1", "OK", "")
    assert (second["region"], second["evaluation"], second["score"]) == (
        "U2",
        "NOT_DECIDABLE",
        "0.5",
    )
    # The human spoke of the part: which region is bad, nobody said.
    assert {row["disposition"] for row in (first, second)} == {""}
    assert {row["part_disposition"] for row in (first, second)} == {"NOT_OK"}
    assert {row["part"] for row in (first, second)} == {"p"}
    found = read_frame(tmp_path / "out" / second["file"]).pixels_hwc
    np.testing.assert_array_equal(found, pixels[:, 4:])


def test_all_regions_of_a_good_part_are_good_and_a_single_one_is_the_part(tmp_path: Path) -> None:
    _, rows = collect_regions(tmp_path, 1, REGIONS)
    assert {row["disposition"] for row in rows} == {"OK"}
    (tmp_path / "b").mkdir()
    _, (row,) = collect_regions(tmp_path / "b", 2, REGIONS[1:])
    assert row["disposition"] == "NOT_OK"


def test_regions_that_were_not_inspected_are_cut_out_all_the_same(tmp_path: Path) -> None:
    """A part past its deadline: the journal's row has no regions, and the model gets regions."""
    ring, journal = tmp_path / "kept", MemoryJournal()
    bare = tuple(RegionEntry(name=entry.name, region=entry.region) for entry in REGIONS)
    keep(ring, 1, "p", regions=bare, reason="deadline", why=("fault",))
    journal.add(1, "p", reason="deadline")
    write_collection(collect(ring, journal), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["region"] for row in rows] == ["U1", "U2"]
    assert {(row["evaluation"], row["reason"]) for row in rows} == {("NOT_DECIDABLE", "deadline")}


def test_what_cannot_be_read_is_told_and_the_others_come(tmp_path: Path) -> None:
    ring, journal = tmp_path / "kept", MemoryJournal()
    spoilt = ring / keep(ring, 1, "p").name
    spoilt.write_bytes(spoilt.read_bytes()[:70])
    outside = msgspec.structs.replace(REGIONS[0], region=Region(x0_px=0, y0_px=0, x1_px=9, y1_px=8))
    keep(ring, 2, "q", regions=(outside,))
    with pytest.raises(FrameError, match="not one of 2 kept frame"):
        write_collection(collect(ring, journal), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    keep(ring, 3, "r")
    summary = write_collection(collect(ring, journal), tmp_path / "out")
    assert (summary.images, len(summary.unreadable)) == (1, 2)
    assert str(spoilt) in summary.unreadable


def test_frames_that_the_ring_lets_go_meanwhile_are_told(tmp_path: Path) -> None:
    ring, journal = tmp_path / "kept", MemoryJournal()
    gone = ring / keep(ring, 1, "p").name
    keep(ring, 2, "q")
    collection: Collection = collect(ring, journal)
    gone.unlink()
    summary = write_collection(collection, tmp_path / "out")
    assert (summary.images, summary.unreadable) == (1, (str(gone),))


def test_a_ring_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="No such file"):
        collect(tmp_path / "absent", MemoryJournal())


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """No file of this process may grow beyond 2 kB, as on a disk that fills up."""
    ring, journal = tmp_path / "kept", MemoryJournal()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    keep(ring, 1, "p", pixels=noise)
    collection = collect(ring, journal)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
        with pytest.raises(StorageError, match="File too large; free space"):
            write_collection(collection, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
