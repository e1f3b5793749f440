"""A signed command on the wire: what was signed comes back, and nothing else does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.bundle import PrivateKey
from lineside.errors import InputDataError
from lineside.mqtt import StationTopics
from lineside.mqtt.commands import COMMAND_LIMIT_BYTES, find_id
from lineside.remote import RefusalReason
from lineside.remote.desk import REFUSALS_PER_S, WAITING_LIMIT
from lineside.remote.envelope import (
    MAGIC,
    SIGNED_LIMIT_BYTES,
    CommandBody,
    Envelope,
    encode_body,
    encode_envelope,
    read_body,
    read_envelope,
    sign_command,
)
from lineside.remote.nonces import CAPACITY
from lineside.remote.verbs import UNSIGNED_VERBS, VERBS, RangeArgs, SetLimitArgs, read_args

KEY = PrivateKey(bytes(range(32)), name="operator")
STATION = StationTopics(site="hall-3", line="line-2", station="joint-01")
NOW_MS = 1_763_740_800_000
EXAMPLES: dict[str, dict[str, Any]] = {
    "trigger": {"part": "LED-000317"},
    "pause": {},
    "resume": {},
    "set-limit": {"product": "joint", "bundle": "0123456789abcdef", "ok": 0.25},
    "range": {"first": 1, "last": 1000},
    "changeover": {"product": "diode"},
    "install": {"sha256": "ab" * 32, "size": 1_048_576},
    "confirm": {"bundle": "ab" * 32},
    "revert": {"product": "joint", "reason": "rollout", "bundle": "ab" * 8},
    "disposition": {"part": "LED-000317", "evaluation": 2, "note": "Lötstelle"},
    "mended": {"product": "joint", "by": "J. Döe"},
}


def sign(verb: str = "pause", **changed: Any) -> bytes:
    told = {
        "verb": verb,
        "station": STATION,
        "args": EXAMPLES[verb],
        "command_id": "c-17",
        "now_unix_ms": NOW_MS,
        "nonce": bytes(16),
        **changed,
    }
    return sign_command(KEY, **told)


def test_each_verb_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(VERBS)
    assert set(UNSIGNED_VERBS) < set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_signed_comes_back(verb: str) -> None:
    payload = sign(verb)
    assert len(payload) <= SIGNED_LIMIT_BYTES
    envelope = read_envelope(payload)
    assert envelope.key_id == KEY.public.key_id
    assert KEY.public.holds(envelope.signature, MAGIC + envelope.body)
    body = read_body(envelope.body)
    assert body == CommandBody(
        verb=verb,
        station="hall-3/line-2/joint-01",
        id="c-17",
        nonce="00" * 16,
        t=NOW_MS,
        exp=NOW_MS + 60_000,
        args=EXAMPLES[verb],
    )
    assert encode_body(body) == envelope.body
    assert read_args(verb, body.args, command_id=body.id)
    assert find_id(payload) == "c-17"


def test_the_body_is_canonical_json_to_the_byte() -> None:
    assert read_envelope(sign("range")).body == (
        b'{"args":{"first":1,"last":1000},"exp":1763740860000,"id":"c-17",'
        b'"nonce":"00000000000000000000000000000000","station":"hall-3/line-2/joint-01",'
        b'"t":1763740800000,"v":1,"verb":"range"}'
    )


def test_the_same_command_is_signed_alike_and_a_drawn_nonce_never_is() -> None:
    assert sign() == sign()
    assert sign(nonce=None) != sign(nonce=None)


@pytest.mark.parametrize(
    ("verb", "args", "words"),
    [
        ("shutdown", {}, "unknown verb 'shutdown'; there are trigger, pause"),
        ("pause", {"for": 3}, "unknown field 'for'"),
        ("set-limit", {"bundle": "0" * 16}, "give ok, not_ok or both"),
        ("set-limit", {"bundle": "xyz", "ok": 1}, "bundle: 64 hex digits"),
        ("set-limit", {"bundle": "0" * 16, "ok": "1"}, "args.ok: Expected 'float"),
        ("set-limit", {"bundle": "0" * 16, "ok": 1, "reset": True}, "reset goes without"),
        ("range", {"first": 1, "last": 1001}, "1 to 1000 verdicts"),
        ("range", {"first": 2, "last": 1}, "1 to 1000 verdicts"),
        ("range", {"first": 0, "last": 1}, "args.first: Expected 'int' >= 1"),
        ("install", {"sha256": "AB" * 32, "size": 1}, "sha256: 64 small hex digits"),
        ("install", {"sha256": "ab" * 32, "size": 0}, "size: at least 1 byte"),
        ("revert", {"reason": "I do not like it"}, "reason: 1 to 24 small letters"),
        ("confirm", {"product": "a\nb"}, "product: at most 128 printable"),
        ("confirm", {"bundle": "ab"}, "bundle: 64 hex digits of its hash, or the first 16"),
        ("revert", {"bundle": "AB" * 32}, "bundle: 64 hex digits of its hash, or the first 16"),
        ("changeover", {}, "product is missing"),
        ("trigger", {"id": "x"}, "id stands beside them"),
        ("trigger", {"prat": "x"}, "unknown key prat"),
        ("disposition", {"part": "p", "evaluation": 3}, "evaluation is 1"),
    ],
)
def test_what_no_station_would_do_is_not_even_signed(
    verb: str, args: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputDataError, match=words):
        sign_command(KEY, verb=verb, station=STATION, args=args, command_id="1", now_unix_ms=NOW_MS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"command_id": "x" * 37}, "id: at most 36"),
        ({"command_id": 'a"b'}, "id: at most 36"),
        ({"station": "joint-01"}, "station: site/line/name"),
        ({"nonce": bytes(15)}, "nonce"),
        ({"now_unix_ms": -1}, "body"),
        ({"now_unix_ms": 10**13}, "body"),
        ({"args": {"by": "\udc80"}, "verb": "mended"}, "command"),
        ({"args": {"part": "p", "evaluation": 1, "note": "ä" * 5000}, "verb": "disposition"}, "."),
        ({"station": "/".join(["s" * 2000] * 3)}, "bytes signed; at most 4096"),
    ],
)
def test_a_frame_that_no_station_would_read_is_not_signed(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputDataError, match=words):
        sign(**changed)


def test_an_implementation_that_writes_its_json_otherwise_is_understood() -> None:
    body = json.dumps(
        {
            "verb": "range",
            "v": 1,
            "t": NOW_MS,
            "exp": NOW_MS + 1,
            "id": "",
            "station": str(STATION),
            "nonce": "f" * 32,
            "args": {"last": 9, "first": 7},
        }
    )
    signature = KEY.sign(MAGIC + body.encode()).hex()
    payload = json.dumps({"sig": signature, "key": KEY.public.key_id.hex(), "body": body})
    envelope = read_envelope(payload.encode())
    assert KEY.public.holds(envelope.signature, envelope.signed)
    found = read_body(envelope.body)
    args = read_args(found.verb, found.args, command_id="")
    assert args == RangeArgs(first=7, last=9)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b'{"body":"","key":"' + b"0" * 32 + b'"}',
        sign()[:-1],
        sign() + b"x",
        sign()[:-1] + b',"more":1}',
        sign()[:-1] + b',"key":"' + b"0" * 32 + b'"}',
        sign().replace(KEY.public.key_id.hex().encode(), KEY.public.key_id.hex().upper().encode()),
        sign().replace(b'"}', b'0"}'),
        sign() + b" " * SIGNED_LIMIT_BYTES,
        b'{"body":' + b"[" * 4000,
        b'{"body":"\xff","key":"","sig":""}',
    ],
)
def test_what_is_no_envelope_is_refused(payload: bytes) -> None:
    with pytest.raises(InputDataError) as caught:
        read_envelope(payload)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        read_envelope(sign()).body[:-1] + b',"verb":"resume"}',
        read_envelope(sign()).body[:-1] + b',"more":1}',
        read_envelope(sign()).body.replace(b'"v":1', b'"v":2'),
        read_envelope(sign()).body.replace(b'"v":1,', b""),
        read_envelope(sign()).body.replace(b'"args":{}', b'"args":{"a":[1]}'),
        read_envelope(sign()).body.replace(b'"args":{}', b'"args":{"a":1,"a":2}'),
        read_envelope(sign()).body.replace(b"00", b"0g", 1),
    ],
)
def test_what_is_no_body_is_refused(body: bytes) -> None:
    with pytest.raises(InputDataError, match=r"^body: "):
        read_body(body)


@given(st.binary(max_size=300), st.binary(min_size=16, max_size=16), st.binary(min_size=64))
def test_any_envelope_round_trips(body: bytes, key_id: bytes, signature: bytes) -> None:
    text = body.decode("utf-8", "replace").encode()
    envelope = Envelope(body=text, key_id=key_id, signature=signature[:64])
    assert read_envelope(encode_envelope(envelope)) == envelope


@given(st.binary(max_size=COMMAND_LIMIT_BYTES))
def test_any_bytes_are_refused_and_never_raise_otherwise(payload: bytes) -> None:
    find_id(payload)
    with pytest.raises(InputDataError):
        read_envelope(payload)


DOCUMENT = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_worked_example_of_the_document_comes_out_again() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    payload = sign(
        "set-limit",
        station="plant1/line3/aoi1",
        args={"product": "led-joint", "bundle": "9f86d081884c7d65", "ok": 0.15},
        command_id="r-4712",
        now_unix_ms=1_795_212_345_678,
        nonce=bytes(range(16)),
    )
    assert f"\n{payload.decode()}\n" in text
    assert f"\n{read_envelope(payload).body.decode()}\n" in text
    assert f"the whole message, {len(payload)} bytes:" in text
    assert f"`{KEY.public.raw.hex()}`" in text


def test_the_document_has_every_verb_argument_reason_and_limit() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for verb in VERBS:
        rows = re.findall(rf"^\| `{verb}` \| (.*?) \| ", text, re.MULTILINE)
        assert len(rows) == 1, verb
        for name in EXAMPLES[verb]:
            assert f"`{name}`" in rows[0], (verb, name)
    for field in CommandBody.__struct_fields__:
        assert re.search(rf"^\| `{field}` \| ", text, re.MULTILINE)
    order = re.findall(r"^\| `(\w+)` \|", text.split("## Refusals")[1].split("\n## ")[0], re.M)
    assert sorted(order) == sorted(reason.value for reason in RefusalReason)
    assert f"at most {SIGNED_LIMIT_BYTES:,} bytes" in text
    assert f"{CAPACITY:,} commands that have not expired" in text
    assert f"Of refusals, {REFUSALS_PER_S} a second" in text
    assert f"where {WAITING_LIMIT} wait already" in text


def test_limits_are_numbers_and_whole_ones_count_too() -> None:
    found = read_args("set-limit", {"bundle": "a" * 64, "not_ok": 3}, command_id="")
    assert found == SetLimitArgs(bundle="a" * 64, not_ok=3.0)
