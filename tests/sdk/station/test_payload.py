"""The wire: at most 256 bytes whatever comes in, and back again without loss."""

from __future__ import annotations

import json
import math
import struct

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineside.errors import InputDataError
from lineside.mqtt import (
    StateMessage,
    StateWord,
    VerdictMessage,
    decode_state,
    decode_verdict,
    encode_state,
    encode_verdict,
    message_of,
)
from lineside.mqtt.binary import pack_verdict, unpack_verdict
from lineside.mqtt.findings import FINDINGS_LIMIT_BYTES, FindingsMessage, encode_findings
from lineside.mqtt.payload import DECIDED, wire_number, wire_part_id
from lineside.mqtt.schema import (
    BUDGET_BYTES,
    DECIDED_REASON_LIMIT_CHARS,
    JSON_FIELDS,
    PACKED,
    PACKED_FIELDS,
    PACKED_LIMIT_BYTES,
    PAYLOAD_LIMIT_BYTES,
    packed_offsets,
)
from lineside.mqtt.state import STATE_LIMIT_BYTES, WARN_LIMIT_CHARS, WHY_LIMIT_CHARS, make_state
from lineside.outbox.store import MAX_SEQ
from lineside.verdict import REASON_CODES, Evaluation, Finding, Reason, Region, Verdict

PIXELS = st.integers(0, 1_000_000)
WORST_FINDING = Finding(
    name="\N{SNOWMAN}" * 60,
    probability=-1.23456e-88,
    region=Region(x0_px=10**6, y0_px=10**6, x1_px=10**6, y1_px=10**6),
    area_px=10**12,
    peak=-1.23456e-88,
    at="\N{SNOWMAN}" * 60,
)

ANY_TEXT = st.text(st.characters(), max_size=80)
ANY_FLOAT = st.none() | st.floats()
verdicts = st.builds(
    Verdict,
    evaluation=st.sampled_from(Evaluation),
    reason=st.sampled_from(Reason),
    score=ANY_FLOAT,
    limit=ANY_FLOAT,
    unit=ANY_TEXT,
    model=ANY_TEXT,
)
WORST = Verdict(
    evaluation=Evaluation.NOT_DECIDABLE,
    reason=max(DECIDED, key=lambda reason: len(reason.value)),
    score=-1.23457e-98,
    limit=-1.23457e-98,
    unit="µm²/s",
    model="f" * 64,
)


def fit(
    verdict: Verdict, seq: int = 1, part_id: str = "", taken_unix_ns: int = 0, exp: int = 1
) -> VerdictMessage:
    return message_of(
        verdict,
        seq=seq,
        job_id=f"{'f' * 8}{seq:010x}",
        part_id=part_id,
        taken_unix_ns=taken_unix_ns,
        expires_unix_ms=exp,
    )


@given(
    verdicts,
    st.integers(1, MAX_SEQ),
    ANY_TEXT,
    st.integers(-(10**20), 10**24),
    st.integers(-(10**20), 10**20),
)
@example(WORST, MAX_SEQ, "W" * 32, 10**24, 10**20)
def test_any_verdict_fits_and_comes_back(
    verdict: Verdict, seq: int, part_id: str, taken_unix_ns: int, exp: int
) -> None:
    message = fit(verdict, seq, part_id, taken_unix_ns, exp)
    assert message.seq == seq
    data = encode_verdict(message)
    assert len(data) <= PAYLOAD_LIMIT_BYTES
    assert decode_verdict(data, source="test") == message
    assert message.t < message.exp
    values = json.loads(data)
    assert tuple(values) == VerdictMessage.__struct_fields__
    packed = pack_verdict(message)
    assert len(packed) == PACKED.size <= PACKED_LIMIT_BYTES
    assert unpack_verdict(packed, source="test") == message
    for key, value in values.items():
        text = json.dumps(value, ensure_ascii=False).encode("utf-8")
        assert len(text) <= BUDGET_BYTES[key] or isinstance(value, float)


def test_the_worst_case_really_is_near_the_limit() -> None:
    # Else the budget is looser than it says and a new field could be promised room there is not.
    length = len(encode_verdict(fit(WORST, MAX_SEQ, "W" * 32, 10**24, 10**20)))
    assert PAYLOAD_LIMIT_BYTES - 1 <= length <= PAYLOAD_LIMIT_BYTES


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_always_have_a_point_and_six_digits(value: float) -> None:
    verdict = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT, score=value)
    text = encode_verdict(fit(verdict)).decode()
    number = text.split('"score":')[1].split(",")[0]
    assert "." in number
    assert len(number) <= BUDGET_BYTES["score"]
    if 1e-90 < abs(value) < 1e90:
        # Half a unit of the sixth digit.
        assert math.isclose(float(number), value, rel_tol=5.1e-6)


def test_a_score_that_is_no_number_is_null_and_never_ok() -> None:
    verdict = Verdict(
        evaluation=Evaluation.NOT_DECIDABLE, reason=Reason.SCORE_NOT_FINITE, score=math.nan
    )
    message = fit(verdict)
    assert message.score is None
    assert message.evaluation is Evaluation.NOT_DECIDABLE
    assert wire_number(math.inf) is None


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-_. ", max_size=32))
def test_plain_part_ids_pass_unchanged(part_id: str) -> None:
    assert wire_part_id(part_id) == part_id


def test_shortened_part_ids_stay_apart() -> None:
    long = [f"{'x' * 40}{number}" for number in range(500)]
    umlauts = ["Gehäuse", "Gehöuse", "Geh_use"]
    assert len({wire_part_id(part) for part in long}) == 500
    assert len({wire_part_id(part) for part in umlauts}) == 3


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused_by_our_error(data: bytes) -> None:
    for decode in (decode_verdict, decode_state):
        try:
            decode(data, source="test")
        except InputDataError:
            continue


def test_an_unknown_evaluation_is_undefined() -> None:
    message = fit(Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT))
    assert msgspec.structs.replace(message, ev=9).evaluation is Evaluation.UNDEFINED


def test_keys_of_newer_stations_are_passed_over() -> None:
    message = fit(Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT))
    data = encode_verdict(message)[:-1] + b',"new":1}'
    assert decode_verdict(data, source="test") == message
    with pytest.raises(InputDataError, match="seq"):
        decode_verdict(b'{"v":1}', source="test")


def test_a_fault_comes_without_a_score() -> None:
    for reason in set(Reason) - DECIDED:
        verdict = Verdict(evaluation=Evaluation.NOT_DECIDABLE, reason=reason, score=0.5, limit=1.0)
        message = fit(verdict)
        assert (message.score, message.limit) == (None, 1.0)
    # That leaves the long words their room.
    assert all(len(reason.value) <= DECIDED_REASON_LIMIT_CHARS for reason in DECIDED)


def test_the_schema_is_the_message() -> None:
    assert tuple(field.key for field in JSON_FIELDS) == VerdictMessage.__struct_fields__
    at = 0
    for field in PACKED_FIELDS:  # else a compiler that aligns would see other places
        assert packed_offsets()[field.plc_name] == at
        assert field.code.endswith("s") or at % field.size_bytes == 0
        at += field.size_bytes
    assert at == PACKED.size == struct.calcsize("@" + PACKED.format[1:])
    assert at % 8 == 0


@given(st.binary(max_size=140), st.integers(0, 103), st.integers(0, 255))
def test_any_packed_bytes_are_read_or_refused_by_our_error(
    data: bytes, at: int, value: int
) -> None:
    sound = bytearray(pack_verdict(fit(WORST, part_id="W" * 32)))
    sound[at] = value
    for some in (data, bytes(sound)):
        try:
            message = unpack_verdict(some, source="test")
        except InputDataError:
            continue
        assert pack_verdict(message).ljust(len(some), b"\0")[:2] == bytes([1, PACKED.size])


def test_what_a_packed_verdict_cannot_hold_is_refused_by_name() -> None:
    message = fit(WORST, part_id="A")
    for change, word in (
        ({"id": "f" * 18}, "id"),
        ({"id": "a"}, "id"),
        ({"part": "W" * 36}, "does not fit into 35 bytes"),
        ({"part": "a\0b"}, "does not fit into 35 bytes"),
        ({"model": "0x3"}, "model"),
        ({"ev": 256}, "ubyte"),
        ({"score": math.nan}, "nan"),
    ):
        with pytest.raises(InputDataError, match=word):
            pack_verdict(msgspec.structs.replace(message, **change))


@pytest.mark.parametrize(
    ("at", "data", "word"),
    [
        (0, b"\2", "version 2"),
        (1, b"\x69", "says 105"),
        (32, b"\0\0\0\0\0\0\xf8\x7f", "no number"),
        (8, b"\0" * 7 + b"\1", "nSeq"),
        (48, b"\0" * 7 + b"\1", "nModel"),
        (60, b"W" * 8, "unit does not end"),
        (68, b"W" * 36, "part does not end"),
        (68, b"\xff", "UTF-8"),
    ],
)
def test_a_damaged_packed_verdict_is_refused_by_name(at: int, data: bytes, word: str) -> None:
    packed = pack_verdict(fit(WORST, part_id="A"))
    with pytest.raises(InputDataError, match=word):
        unpack_verdict(packed[:at] + data + packed[at + len(data) :], source="test")


def test_a_newer_station_may_append_to_a_packed_verdict() -> None:
    message = fit(WORST, part_id="A")
    packed = bytearray(pack_verdict(message) + b"new!")
    packed[1] += 4
    assert unpack_verdict(bytes(packed), source="test") == message
    packed[3] = 99  # a code that this Lineside does not know
    assert unpack_verdict(bytes(packed), source="test").reason == ""


def test_a_model_that_is_no_hash_is_left_out() -> None:
    for model in ("", "abc", "no hash at all", "F" * 64):
        verdict = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT, model=model)
        assert fit(verdict).model == ""


def test_every_reason_has_its_own_code_within_its_budget() -> None:
    assert set(REASON_CODES) == set(Reason)
    assert len(set(REASON_CODES.values())) == len(Reason)
    for reason in Reason:
        assert len(reason.value) + 2 <= BUDGET_BYTES["reason"]
        assert len(str(reason.code)) <= BUDGET_BYTES["code"]


def state_of(
    product: str, version: str, engine: str, why: str, limit: float | None
) -> StateMessage:
    return msgspec.structs.replace(
        make_state(StateWord.FAULT, reason="connection_lost"),
        beat_s=3600,
        product=product,
        bundle="f" * 64,
        version=version,
        engine=engine,
        runtime="100.100.100",
        given=MAX_SEQ,
        acked=MAX_SEQ,
        queue=MAX_SEQ,
        reconnects=10**9,
        maps_lost=MAX_SEQ,
        limits="tightened",
        unit=engine,
        ok=limit,
        not_ok=limit,
        sealed_ok=limit,
        sealed_not_ok=limit,
        limits_by=product,
        limits_why=why,
        limits_key="f" * 32,
        warn="W" * WARN_LIMIT_CHARS,
        instance="f" * 8,
        slot="a",
        slot_state="confirmed",
        counter=2**32 - 1,
        next="f" * 16,
        reverted=why,
        reverted_bundle="f" * 16,
    )


WORST_STATE = ("W" * 32, "W" * 32, "W" * 32, "W" * WHY_LIMIT_CHARS, -1.23457e15)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_FLOAT)
@example(*WORST_STATE)
def test_any_state_fits_and_comes_back(
    product: str, version: str, engine: str, why: str, limit: float | None
) -> None:
    data = encode_state(state_of(product, version, engine, why, limit))
    assert len(data) <= STATE_LIMIT_BYTES
    assert tuple(json.loads(data)) == StateMessage.__struct_fields__
    assert encode_state(decode_state(data, source="test")) == data


def test_the_worst_state_really_is_near_the_limit() -> None:
    assert STATE_LIMIT_BYTES - 16 <= len(encode_state(state_of(*WORST_STATE))) <= STATE_LIMIT_BYTES


def test_the_reason_of_an_override_is_shortened_so_that_one_sees_it() -> None:
    why = "the lamp of this station is brighter " * 4
    state = state_of("p", "1", "e", why, 0.5)
    heard = decode_state(encode_state(state), source="test").limits_why
    assert len(heard) == WHY_LIMIT_CHARS
    assert heard.startswith(why[:70])
    assert "~" in heard


@given(
    findings=st.lists(
        st.builds(
            Finding,
            name=st.text(max_size=60),
            probability=st.none() | st.floats(),
            region=st.none()
            | st.builds(
                Region,
                **dict.fromkeys(("x0_px", "y0_px"), PIXELS),
                **dict.fromkeys(("x1_px", "y1_px"), PIXELS),
            ),
            area_px=st.none() | st.integers(0, 10**12),
            peak=st.none() | st.floats(),
            at=st.text(max_size=60),
        ),
        max_size=40,
    ),
    part=st.text(max_size=60),
)
@example(findings=[WORST_FINDING] * 99, part="\N{SNOWMAN}" * 60)
def test_findings_fit_whatever_comes(findings: list[Finding], part: str) -> None:
    data = encode_findings(findings, seq=MAX_SEQ, job_id="f" * 18, part_id=part)
    assert len(data) <= FINDINGS_LIMIT_BYTES
    message = msgspec.json.decode(data, type=FindingsMessage)
    assert message.count == len(findings)
    assert len(message.findings) == min(len(findings), 20)
