"""`lineside audit`: what matches is proven; what does not is listed, whatever was done to it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from lineside.cli.audit import audit
from lineside.errors import InputDataError, StorageError
from lineside.mqtt import VerdictMessage
from lineside.mqtt.payload import decode_verdict, encode_verdict
from lineside.outbox import Draft, JournalEntry, Late, Outbox, OutboxSettings, Stamp, encode_entry

NEVER = threading.Event()
GIVEN = 12


def message(seq: int, job_id: str, *, evaluation: int, reason: str) -> VerdictMessage:
    fields = {
        "v": 1,
        "seq": seq,
        "id": job_id,
        "part": f"LED-{seq}",
        "t": 1795212345678,
        "exp": 1795212405678,
        "ev": evaluation,
        "score": 0.731204,
        "limit": 0.5,
        "unit": "K/W",
        "reason": reason,
        "code": 1,
        "model": "9f86d081884c",
        "lat_us": 4180,
    }
    return msgspec.convert(fields, VerdictMessage)


def turn(number: int) -> str:
    return f"{0xABC0000000000000 + number:016x}"


def draft(number: int) -> Draft:
    past = number == 3
    reason = "deadline" if past else "beyond_limit"
    evaluation = 3 if past else 2

    def encode(stamp: Stamp) -> bytes:
        said = message(stamp.seq, stamp.job_id, evaluation=evaluation, reason=reason)
        return encode_verdict(said)

    entry = JournalEntry(turn=turn(number), evaluation=evaluation, reason=reason)
    return Draft(encode=encode, entry=encode_entry(entry))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve verdicts, 1, 2, 3 and 6 acknowledged, one past its deadline with a late result."""
    path = tmp_path_factory.mktemp("sound") / "outbox.sqlite"
    outbox = Outbox(OutboxSettings(path=path))
    for number in range(1, GIVEN + 1):
        outbox.put(draft(number), stopping=NEVER)
    late = JournalEntry(turn=turn(3), evaluation=1, reason="within_limit", late=True)
    outbox.put_late(Late(turn=turn(3), entry=encode_entry(late)))
    assert outbox.flush(10)
    outbox.acknowledge([1, 2, 3, 6])
    outbox.close()
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "outbox.sqlite"))


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as someone:
        for statement in statements:
            someone.execute(statement)
    someone.close()


def run(*arguments: object) -> tuple[int, Any]:
    done = CliRunner().invoke(audit, [*map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout) if done.stdout else done.stderr


def test_a_sound_outbox_is_proven(path: Path) -> None:
    code, found = run(path)
    assert code == 0
    audited = found["audit"]
    assert audited["gaps"] == []
    assert [audited[key] for key in ("given", "acknowledged", "waiting", "journalled", "late")] == [
        *(GIVEN, 4, GIVEN - 4, GIVEN, 1)
    ]
    assert found["received"] is None


CHANGES: list[tuple[str, list[tuple[str, int, int]]]] = [
    ("DELETE FROM waiting WHERE seq IN (8, 9)", [("lost", 8, 9)]),
    ("DELETE FROM waiting WHERE seq = 12", [("lost", 12, 12)]),
    ("DELETE FROM acknowledged", [("lost", 1, 3), ("lost", 6, 6)]),
    ("UPDATE acknowledged SET last_seq = 4 WHERE first_seq = 1", [("twice", 4, 4)]),
    ("UPDATE counter SET given = 14", [("lost", 13, 14), ("unjournalled", 13, 14)]),
    ("UPDATE counter SET given = 10", [("beyond", 11, 12), ("beyond", 11, 12)]),
    ("DELETE FROM counter", [("lost", 0, 0)]),
    ("DELETE FROM journal WHERE seq BETWEEN 5 AND 7", [("unjournalled", 5, 7)]),
    ("DELETE FROM journal WHERE seq = 1", [("unjournalled", 1, 1)]),
    ("UPDATE waiting SET payload = x'7b7d' WHERE seq = 7", [("payload", 7, 7)]),
    ("UPDATE journal SET payload_sha256 = x'00' WHERE seq = 7", [("payload", 7, 7)]),
    ("UPDATE journal SET entry = x'7b7b' WHERE seq = 2", [("entry", 2, 2)]),
    (
        "UPDATE journal SET entry = CAST(replace(entry, '\"evaluation\":2', '\"evaluation\":1')"
        " AS BLOB) WHERE seq = 10",
        [("entry", 10, 10)],
    ),
    (
        "UPDATE journal SET entry = (SELECT entry FROM journal WHERE seq = 4) WHERE seq = 5",
        [("turn", 5, 5)],
    ),
    (
        "UPDATE late SET turn = 'abc0000000000004',"
        " entry = CAST(replace(entry, 'abc0000000000003', 'abc0000000000004') AS BLOB)",
        [("late", 0, 0)],
    ),
    ("UPDATE late SET entry = x'00'", [("entry", 0, 0)]),
]


@pytest.mark.parametrize(("statement", "expected"), CHANGES)
def test_whatever_was_taken_out_or_changed_is_listed(
    path: Path, statement: str, expected: list[tuple[str, int, int]]
) -> None:
    change(path, statement)
    code, found = run(path)
    assert code == 1
    gaps = [(gap["kind"], gap["first"], gap["last"]) for gap in found["audit"]["gaps"]]
    assert gaps[: len(expected)] == expected
    assert found["audit"]["gap_count"] == len(gaps)


def test_a_payload_of_another_id_is_listed(path: Path) -> None:
    """Its hash was made anew: only number and id give it away."""
    with sqlite3.connect(path) as someone:
        (payload,) = someone.execute("SELECT payload FROM waiting WHERE seq = 9").fetchone()
        other = payload.replace(b'"seq":9', b'"seq":8')
        someone.execute("UPDATE waiting SET payload = ? WHERE seq = 9", (other,))
        someone.execute(
            "UPDATE journal SET payload_sha256 = ? WHERE seq = 9", (hashlib.sha256(other).digest(),)
        )
    someone.close()
    code, found = run(path)
    assert (code, [gap["kind"] for gap in found["audit"]["gaps"]]) == (1, ["id"])


def test_what_is_older_than_the_journal_is_not_claimed(path: Path) -> None:
    change(path, "DELETE FROM journal WHERE seq < 3", "UPDATE counter SET journal_from = 3")
    code, found = run(path)
    assert (code, found["audit"]["journal_from"], found["audit"]["journalled"]) == (0, 3, 10)


def test_since_says_nothing_of_what_was_before(path: Path) -> None:
    change(path, "DELETE FROM waiting WHERE seq IN (4, 9)")
    assert [gap["first"] for gap in run(path, "--since", 5)[1]["audit"]["gaps"]] == [9]
    assert run(path, "--since", 10)[0] == 0
    change(path, "UPDATE journal SET at_unix_ms = 1000 * seq")
    code, found = run(path, "--since", "1970-01-01T00:00:05+00:00")
    assert (code, found["audit"]["since_seq"]) == (1, 5)
    assert run(path, "--since", "2100-01-01")[0] == 0
    assert run(path, "--since", "yesterday")[0] == 2


def test_in_words_it_names_each_gap_and_what_to_do(path: Path) -> None:
    assert CliRunner().invoke(audit, [str(path)]).stdout.endswith("all matches\n")
    change(path, "DELETE FROM waiting WHERE seq IN (8, 9)")
    words = CliRunner().invoke(audit, [str(path)]).stdout
    assert "  lost          seq 8 to 9\n" in words
    assert words.endswith("does not match: see above\n")


def test_a_file_that_is_none_or_torn_or_not_there_is_a_clear_error(tmp_path: Path) -> None:
    missing, text = tmp_path / "none.sqlite", tmp_path / "text.sqlite"
    text.write_bytes(b"no database at all " * 100)
    for file, words in ((missing, "no such outbox"), (text, "not a database")):
        with pytest.raises(StorageError, match=words):
            run(file)
    assert not missing.exists()


def test_a_torn_file_is_a_clear_error(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3 * 2048 :] = bytes(3 * 2048)
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        run(path)


def test_it_looks_on_while_a_station_runs_and_changes_nothing(path: Path) -> None:
    outbox = Outbox(OutboxSettings(path=path))
    outbox.put(draft(13), stopping=NEVER)
    assert outbox.flush(10)
    code, found = run(path)
    assert (code, found["audit"]["given"]) == (0, 13)
    outbox.put(draft(14), stopping=NEVER)
    assert outbox.flush(10)
    outbox.close()
    assert run(path)[1]["audit"]["given"] == 14


READS_ONLY = """
import os, sys
from pathlib import Path
from lineside.outbox import audit, open_journal
os.umask(0)
if os.geteuid() == 0:
    os.setuid(65534)  # nothing is forbidden to root
with open_journal(Path(sys.argv[1])) as journal:
    print(audit(journal).given, os.access(Path(sys.argv[1]).parent, os.W_OK))
"""


def test_a_file_in_a_folder_that_may_not_be_written_is_read(path: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        copy = Path(shutil.copy(path, folder / "outbox.sqlite"))
        copy.chmod(0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READS_ONLY, str(copy)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        folder.chmod(0o700)
        assert done.stdout == f"{GIVEN} False\n", done.stderr
        assert [file.name for file in folder.iterdir()] == ["outbox.sqlite"]


def heard_lines(path: Path, seqs: Sequence[int], *, kind: str = "verdict") -> list[str]:
    """What `listen --json` writes of these numbers."""
    with sqlite3.connect(path) as someone:
        (origin,) = someone.execute("SELECT origin FROM counter").fetchone()
    someone.close()
    lines = []
    for seq in seqs:
        payload = draft(seq).encode(Stamp(seq=seq, job_id=f"{origin}{seq:010x}"))
        body = msgspec.to_builtins(decode_verdict(payload, source=""))
        who = {"site": "plant1", "line": "line3", "station": "aoi1"}
        lines.append(json.dumps({"kind": kind, **who, **body}))
    return lines


Change = Callable[[list[str]], list[str]]
STRANGER = '{"kind":"state","site":"plant1","line":"line3","station":"aoi1","st":1}'
RECEIVED: list[tuple[str, Change, list[tuple[str, int, int]]]] = [
    ("all", lambda lines: lines, []),
    ("repeated", lambda lines: [*lines[:3], *lines], []),
    ("with states", lambda lines: [STRANGER, *lines, "", STRANGER], []),
    ("acknowledged, lost", lambda lines: [lines[0], *lines[3:]], [("missing", 2, 3)]),
    ("not acknowledged", lambda lines: [*lines[:6], *lines[8:]], []),
    ("out of order", lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], [("order", 4, 4)]),
    (
        "changed",
        lambda lines: [*lines, lines[4].replace("0.731204", "0.8")],
        [("changed", 5, 5)],
    ),
    (
        "not what was given",
        lambda lines: [*lines[:4], lines[4].replace("LED-5", "LED-6"), *lines[5:]],
        [("changed", 5, 5)],
    ),
]


@pytest.mark.parametrize(
    ("alter", "expected"), [row[1:] for row in RECEIVED], ids=[row[0] for row in RECEIVED]
)
def test_what_was_received_is_held_against_what_was_given(
    path: Path, tmp_path: Path, alter: Change, expected: list[tuple[str, int, int]]
) -> None:
    file = tmp_path / "heard.jsonl"
    file.write_text("\n".join(alter(heard_lines(path, range(1, GIVEN + 1)))) + "\n")
    code, found = run(path, "--received", file)
    differences = found["received"]["differences"]
    assert [(one["kind"], one["first"], one["last"]) for one in differences] == expected
    assert code == (1 if expected else 0)


def test_live_and_history_are_two_orders(path: Path, tmp_path: Path) -> None:
    live = heard_lines(path, [7, 8, 9, 10, 11, 12])
    history = heard_lines(path, [1, 2, 3, 4, 5, 6], kind="history")
    mixed = [line for pair in zip(live, history, strict=True) for line in pair]
    file = tmp_path / "heard.jsonl"
    file.write_text("\n".join(mixed) + "\n")
    code, found = run(path, "--received", file)
    assert (code, found["received"]["received"]) == (0, GIVEN)


def test_other_outboxes_are_counted_and_ids_that_were_never_given_are_named(
    path: Path, tmp_path: Path
) -> None:
    lines = heard_lines(path, range(1, GIVEN + 2))
    origin = json.loads(lines[0])["id"][:8]
    other = "00000000" if origin != "00000000" else "11111111"
    file = tmp_path / "heard.jsonl"
    file.write_text("\n".join([*lines, lines[0].replace(origin, other)]) + "\n")
    code, found = run(path, "--received", file)
    received = found["received"]
    assert (code, received["of_others"]) == (1, 1)
    assert [one["kind"] for one in received["differences"]] == ["stranger"]


@pytest.mark.parametrize("content", [b'{"kind":"verdict"}', b"{half a li", b"\xff\xfe"])
def test_a_file_of_something_else_is_named_with_its_line(
    path: Path, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "heard.jsonl"
    file.write_bytes(b"\n" + content + b"\n")
    with pytest.raises(InputDataError, match=r"heard\.jsonl: line 2: not of"):
        run(path, "--received", file)
    with pytest.raises(InputDataError, match="No such file"):
        run(path, "--received", tmp_path / "none.jsonl")
