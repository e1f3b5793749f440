"""`lineside plc-types`: what a PLC's compiler makes of the types is what the station sends."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lineside.cli.plc_types import plc_types
from lineside.errors import ConfigurationError
from lineside.mqtt import encode_verdict, message_of
from lineside.mqtt.binary import pack_verdict
from lineside.mqtt.schema import JSON_FIELDS, PACKED, PACKED_FIELDS, Kind, packed_offsets
from lineside.plc import DIALECTS, BlockCode, declare
from lineside.plc.limits import LIMITS, Declared, Member, PlcLimits, check_limits
from lineside.verdict import REASON_CODES, Evaluation, Reason, Verdict

SIZES = {"USINT": 1, "BYTE": 1, "BOOL": 1, "UDINT": 4, "ULINT": 8, "LREAL": 8}
CODES = {"USINT": "B", "UDINT": "I", "ULINT": "Q", "LREAL": "d"}


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def structure(text: str, name: str) -> dict[str, str]:
    """Members of a STRUCT with their types, in order; fails on what a compiler would not take."""
    body = re.search(
        rf'TYPE "?{name}"?\s*(?::|VERSION : 0\.1)\s*STRUCT\s(.*?)\s+END_STRUCT;?\s+END_TYPE',
        without_comments(text),
        re.DOTALL,
    )
    assert body is not None, name
    members: dict[str, str] = {}
    for line in re.sub(r"\{[^}]*\}", "", body[1]).split(";"):
        if line.strip():
            member = re.fullmatch(r"\s*([A-Za-z]\w*) : ([^;]+?)\s*", line)
            assert member is not None, line
            assert member[1] not in members
            members[member[1]] = member[2]
    return members


def size_and_unit(kind: str) -> tuple[int, int]:
    """Bytes of a type, and what a compiler may align it to."""
    text = re.fullmatch(r"STRING\((\d+)\)", kind)
    if text:
        return int(text[1]) + 1, 1
    array = re.fullmatch(r"ARRAY\[0\.\.(\d+)\] OF BYTE", kind, re.IGNORECASE)
    if array:
        return int(array[1]) + 1, 1
    size = SIZES[kind.upper()]
    return size, size


def layout(members: dict[str, str], pack_mode: int) -> tuple[dict[str, int], int]:
    """Offsets and size as infosys.beckhoff.com describes the attribute ``pack_mode``."""
    offsets, at, widest = {}, 0, 1
    for name, kind in members.items():
        size, unit = size_and_unit(kind)
        unit = min(unit, pack_mode)
        widest = max(widest, unit)
        at += -at % unit
        offsets[name] = at
        at += size
    return offsets, at + -at % widest


@pytest.mark.parametrize("dialect", ["codesys", "twincat"])
@pytest.mark.parametrize("pack_mode", [1, 2, 4, 8])
def test_the_packed_structure_lies_as_python_packs_it(dialect: str, pack_mode: int) -> None:
    members = structure(declare(dialect), "ST_LinesideVerdictPacked")
    assert layout(members, pack_mode) == (packed_offsets(), PACKED.size)
    for field in PACKED_FIELDS:
        kind = members[field.plc_name]
        assert kind.startswith("STRING") or CODES[kind] == field.code


def test_the_packed_structure_of_scl_lies_as_python_packs_it() -> None:
    members = structure(declare("scl"), "LinesideVerdictPacked")
    at = 0
    for field in PACKED_FIELDS:
        size, _ = size_and_unit(members[field.plc_name])
        # Standard access puts what is no single byte on an even address.
        at += at % 2 if size > 1 else 0
        assert (at, size) == (packed_offsets()[field.plc_name], field.size_bytes)
        at += size
    assert at == PACKED.size


@given(st.integers(1, 10**12 - 1), st.text(max_size=40), st.floats(-1e9, 1e9))
def test_a_plc_that_reads_by_the_declared_types_reads_the_verdict(
    seq: int, part: str, score: float
) -> None:
    members = structure(declare("codesys"), "ST_LinesideVerdictPacked")
    offsets, _ = layout(members, 1)
    verdict = Verdict(
        evaluation=Evaluation.NOT_OK, reason=Reason.BEYOND_LIMIT, score=score, model="a" * 64
    )
    message = message_of(
        verdict,
        seq=seq,
        job_id=f"0000002a{seq:010x}",
        part_id=part,
        taken_unix_ns=10**18,
        expires_unix_ms=10**12 + 5,
    )
    data = pack_verdict(message)

    def read(name: str) -> Any:
        return struct.unpack_from(f"<{CODES[members[name]]}", data, offsets[name])[0]

    assert (read("nSeq"), read("nOrigin"), read("nCode")) == (seq, 42, 1)
    assert (read("nTakenMs"), read("nExpiresMs")) == (10**12, 10**12 + 5)
    assert (read("fScore"), read("nFlags")) == (message.score, 1 + 4)
    text = data[offsets["sPart"] :].split(b"\0")[0].decode()
    assert text == message.part


@pytest.mark.parametrize("dialect", ["codesys", "twincat", "scl"])
def test_the_parsed_structure_holds_every_key(dialect: str) -> None:
    name = "LinesideVerdict" if dialect == "scl" else "ST_LinesideVerdict"
    members = structure(declare(dialect), name)
    expected = []
    for field in JSON_FIELDS:
        expected += [f"x{field.plc_name[1:]}"] if field.kind is Kind.FLOAT else []
        expected += [field.plc_name]
        if field.kind is Kind.TEXT:
            length = int(re.findall(r"\d+", members[field.plc_name])[0])
            assert length == field.most_bytes
        elif field.kind is Kind.INTEGER:
            assert field.high < 256 ** SIZES[members[field.plc_name]]
    assert list(members) == expected


@pytest.mark.parametrize("dialect", ["codesys", "twincat", "scl"])
def test_every_number_has_a_name(dialect: str) -> None:
    found = re.findall(r"(\w+)(?: : USInt)? := (\d+)", without_comments(declare(dialect)))
    known = [*Evaluation, *REASON_CODES.values(), *BlockCode]
    assert [int(number) for _, number in found] == [int(number) for number in known]
    words = [*Evaluation, *REASON_CODES, *BlockCode]
    plain = [re.sub("^(is_|e(?=[A-Z]))", "", name).replace("_", "").upper() for name, _ in found]
    assert plain == [word.name.replace("_", "") for word in words]


@pytest.mark.parametrize("dialect", ["codesys", "twincat"])
def test_every_type_is_closed_and_the_union_is_as_long_as_the_message(dialect: str) -> None:
    text = without_comments(declare(dialect))
    assert text.count("TYPE ") == text.count("END_TYPE") == 6
    assert f"aBytes : ARRAY[0..{PACKED.size - 1}] OF BYTE;" in text
    assert ("TcEncoding" in text) == (dialect == "twincat")


def schema_accepts(schema: dict[str, Any], message: dict[str, Any]) -> bool:
    """As much of JSON Schema 2020-12 as ours uses; an unknown word fails."""
    for key in schema["required"]:
        if key not in message:
            return False
    for key, rule in schema["properties"].items():
        value = message[key]
        kinds = {"integer": int, "number": (int, float), "string": str, "null": type(None)}
        named = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        known = {"description", "type", "minimum", "maximum", "maxLength", "pattern"}
        assert set(rule) <= known
        if not any(isinstance(value, kinds[name]) for name in named):
            return False
        if "minimum" in rule and not rule["minimum"] <= value <= rule["maximum"]:
            return False
        if len(str(value)) > rule.get("maxLength", 10**3):
            return False
        if "pattern" in rule and not re.search(rule["pattern"], value):
            return False
    return True


@given(st.sampled_from(Reason), st.text(max_size=40), st.none() | st.floats(), st.text(max_size=9))
def test_the_json_schema_takes_every_verdict(
    reason: Reason, part: str, score: float | None, unit: str
) -> None:
    schema = json.loads(declare("json-schema"))
    verdict = Verdict(evaluation=Evaluation.NOT_OK, reason=reason, score=score, unit=unit)
    message = message_of(
        verdict,
        seq=7,
        job_id="0000002a0000000007",
        part_id=part,
        taken_unix_ns=0,
        expires_unix_ms=5,
    )
    told = json.loads(encode_verdict(message))
    assert schema_accepts(schema, told)
    assert list(told) == list(schema["properties"]) == schema["required"]
    for key, wrong in (("ev", 4), ("seq", 0), ("id", "x" * 18), ("part", 'a"b'), ("score", "1")):
        assert not schema_accepts(schema, {**told, key: wrong})


def test_a_type_that_a_plc_would_not_take_is_found() -> None:
    limits = PlcLimits(payload_bytes=255, string_chars=10, name_chars=12)
    names = ["", "1st", "a__b", "end_", "limit", "twice", "Twice", "much_too_long_a_name", "größe"]
    members = [Member(name=name, kind="BOOL", comment="") for name in names]
    text = Member(name="s", kind="STRING(11)", comment="naïve", string_chars=11)
    found = check_limits([Declared(name="T", comment="", members=[*members, text])], limits)
    for name in (n for n in names if n != "twice"):
        assert any(repr(name) in line for line in found), name
    assert any("verdict: 256 bytes" in line for line in found)
    assert any("STRING of 11" in line for line in found)
    assert any("naïve" in line for line in found)
    assert not any("'twice'" in line for line in found)


def test_the_limits_are_those_that_the_makers_state() -> None:
    assert LIMITS["codesys"].payload_bytes == 4096
    assert (LIMITS["codesys"].string_chars, LIMITS["scl"].string_chars) == (255, 254)
    with pytest.raises(ConfigurationError, match="codesys, twincat, scl"):
        declare("basic")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_verb_writes_the_same_at_every_call(dialect: str, tmp_path: Path) -> None:
    shown = CliRunner().invoke(plc_types, ["--dialect", dialect])
    assert shown.exit_code == 0
    assert shown.output == declare(dialect)
    assert shown.output.isascii()
    out = tmp_path / "types.txt"
    for _ in range(2):
        assert (
            CliRunner().invoke(plc_types, ["--dialect", dialect, "--out", str(out)]).exit_code == 0
        )
        assert out.read_text("utf-8") == declare(dialect)


def test_a_dialect_that_is_not_there_is_wrong_use() -> None:
    assert CliRunner().invoke(plc_types, ["--dialect", "basic"]).exit_code == 2
    assert CliRunner().invoke(plc_types, []).exit_code == 2
