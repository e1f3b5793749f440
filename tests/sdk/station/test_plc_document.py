"""docs/plc.md says what the code does: every key, every reason, every example."""

from __future__ import annotations

import re
from pathlib import Path

from lineside.mqtt import (
    StateMessage,
    VerdictMessage,
    decode_state,
    decode_verdict,
    encode_state,
    encode_verdict,
)
from lineside.mqtt.findings import FINDINGS_LIMIT_BYTES, FindingsMessage, WireFinding
from lineside.mqtt.publisher import VERDICT_WINDOW, WINDOW
from lineside.mqtt.rival import RIVAL
from lineside.mqtt.schema import (
    BUDGET_BYTES,
    PACKED,
    PACKED_LIMIT_BYTES,
    PAYLOAD_LIMIT_BYTES,
    packed_offsets,
)
from lineside.mqtt.state import STATE_LIMIT_BYTES
from lineside.station.slotwords import OVERDUE
from lineside.verdict import REASON_CODES, Evaluation, Reason

FOLDER = Path(__file__).parents[3] / "docs"
TEXT = (FOLDER / "plc.md").read_text(encoding="utf-8")


def rows(title: str) -> list[list[str]]:
    """The cells of the first table behind a heading."""
    table = TEXT.split(title, 1)[1].split("|---", 1)[1].split("\n\n", 1)[0]
    lines = [line for line in table.splitlines()[1:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_keys_of_the_verdict_in_their_order() -> None:
    keys = [row[0].strip("`| ") for row in rows("## The verdict")]
    assert tuple(keys) == VerdictMessage.__struct_fields__


def test_the_budget_is_the_schemas() -> None:
    told = TEXT.split("**The budget.**", 1)[1].split("\n\n", 1)[0]
    values = dict(re.findall(r"`(\w+)`\s(\d+)", told.split("at most:", 1)[1].split("quotes", 1)[0]))
    assert {key: int(size) for key, size in values.items()} == BUDGET_BYTES
    around = len("{}") + sum(len(f'"{key}":') for key in BUDGET_BYTES) + len(BUDGET_BYTES) - 1
    assert f"take {around} bytes" in told
    assert f"That would be {around + sum(BUDGET_BYTES.values())}" in told


def test_the_packed_fields_with_their_places() -> None:
    told = [(int(row[0].strip("| ")), row[1].strip("`")) for row in rows("## The packed verdict")]
    assert told == [(offset, name) for name, offset in packed_offsets().items()]
    assert f"as {PACKED.size} bytes" in TEXT
    assert f"up to\n{PACKED_LIMIT_BYTES} bytes" in TEXT


def test_the_keys_of_the_state_in_their_order() -> None:
    keys = [row[0].strip("`| ") for row in rows("## The state")]
    assert tuple(keys) == StateMessage.__struct_fields__


def test_every_key_of_the_findings() -> None:
    told = [row[0].strip("`| ") for row in rows("## The findings")]
    assert tuple(key for key in told if "[]" not in key) == FindingsMessage.__struct_fields__
    inside = tuple(key.removeprefix("findings[].") for key in told if "[]" in key)
    assert inside == WireFinding.__struct_fields__
    assert f"at most {FINDINGS_LIMIT_BYTES:,} bytes" in TEXT.split("## The findings", 1)[1]


def test_every_word_of_warn() -> None:
    (told,) = (row[1] for row in rows("## The state") if row[0].strip("`| ") == "warn")
    assert {"disk", "source", "drift", Reason.PAUSED.value, OVERDUE, RIVAL} == set(
        re.findall(r"`(\w+)`", told)
    )


def test_every_reason_with_its_code() -> None:
    told = {row[1].strip("` "): int(row[0]) for row in rows("### Reason codes")}
    assert told == {reason.value: code for reason, code in REASON_CODES.items()}


def test_every_evaluation_with_its_number() -> None:
    told = {row[1]: int(row[0]) for row in rows("### Evaluation")}
    assert told == {evaluation.name: int(evaluation) for evaluation in Evaluation}


def test_the_examples_are_real_messages() -> None:
    verdict, state = re.findall(r"```json\n(.+)\n```", TEXT)
    assert encode_verdict(decode_verdict(verdict.encode(), source="doc")) == verdict.encode()
    assert encode_state(decode_state(state.encode(), source="doc")) == state.encode()


def test_the_limits_are_the_codes() -> None:
    assert f"at most {PAYLOAD_LIMIT_BYTES} bytes whatever" in TEXT
    assert f"At most {STATE_LIMIT_BYTES} bytes" in TEXT
    assert f"at most {VERDICT_WINDOW} verdicts" in TEXT
    station = (FOLDER / "station.md").read_text(encoding="utf-8")
    assert f"At most {WINDOW} messages are on their way" in station
