"""Who may tell a station what, and when: each refusal has its reason and is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.bundle import PrivateKey, revoke_key
from lineside.bundle.keys import encode_public_key
from lineside.errors import ConfigurationError, StorageError
from lineside.remote import (
    CommandKeys,
    CommandKeySettings,
    Gate,
    InstallArgs,
    KeyRing,
    Refusal,
    RefusalReason,
    SignedCommand,
    load_command_keys,
    sign_command,
)
from lineside.remote.envelope import (
    MAGIC,
    CommandBody,
    Envelope,
    encode_body,
    encode_envelope,
)
from lineside.remote.gate import NonceAnswer

STATION = "hall-3/line-2/joint-01"
NOW_MS = 1_763_740_800_000
OPERATOR = PrivateKey(bytes(range(32)), name="operator")
OFFICE = PrivateKey(bytes(range(1, 33)), name="office")
STRANGER = PrivateKey(bytes(range(2, 34)), name="stranger")
KEYS = CommandKeys(
    keys={key.public.key_id: key.public for key in (OPERATOR, OFFICE)},
    verbs={
        OPERATOR.public.key_id: frozenset({"pause", "resume", "trigger"}),
        OFFICE.public.key_id: frozenset({"install"}),
    },
)


class Memory:
    """Nonces in memory; answers what it is told to."""

    def __init__(self, answer: NonceAnswer = "new", fault: str = "") -> None:
        self.asked: list[tuple[bytes, int, int]] = []
        self._answer = answer
        self._fault = fault

    def remember(self, nonce: bytes, expires_unix_ms: int, now_unix_ms: int) -> NonceAnswer:
        known = any(nonce == one for one, _, _ in self.asked)
        self.asked.append((nonce, expires_unix_ms, now_unix_ms))
        if self._fault:
            raise StorageError(self._fault)
        return "known" if known else self._answer


def gate(memory: Memory | None = None, **changed: Any) -> Gate:
    told = {"station": STATION, "keys": KEYS, "nonces": memory or Memory(), **changed}
    return Gate(**told)


def sign(key: PrivateKey = OPERATOR, **changed: Any) -> bytes:
    told = {
        "verb": "pause",
        "station": STATION,
        "args": {},
        "command_id": "c-17",
        "now_unix_ms": NOW_MS,
        **changed,
    }
    return sign_command(key, **told)


def forge(body: bytes, key: PrivateKey = OPERATOR) -> bytes:
    """A sound signature over what need not be sound."""
    signature = key.sign(MAGIC + body)
    return encode_envelope(Envelope(body=body, key_id=key.public.key_id, signature=signature))


def body(**changed: Any) -> bytes:
    told = {
        "verb": "pause",
        "station": STATION,
        "id": "c-17",
        "nonce": "0" * 32,
        "t": NOW_MS,
        "exp": NOW_MS + 60_000,
        "args": {},
        **changed,
    }
    return encode_body(CommandBody(**told))


def refuse(payload: bytes, made: Gate | None = None, **told: Any) -> Refusal:
    used = made or gate()
    before = dict(used.refused)
    found = used.judge(payload, told.pop("now_unix_ms", NOW_MS), **told)
    assert isinstance(found, Refusal), found
    assert used.refused == {**before, found.reason: before[found.reason] + 1}
    assert found.detail.startswith(f"{found.reason.value}: ")
    assert found.detail.isprintable()
    return found


def test_a_sound_command_passes_once_and_its_nonce_is_spent_before() -> None:
    memory = Memory()
    made = gate(memory)
    payload = sign(nonce=bytes(range(16)))
    found = made.judge(payload, NOW_MS + 5)
    assert isinstance(found, SignedCommand)
    assert (found.verb, found.command_id, found.key.name) == ("pause", "c-17", "operator")
    assert (found.signed_unix_ms, found.expires_unix_ms) == (NOW_MS, NOW_MS + 60_000)
    assert memory.asked == [(bytes(range(16)), NOW_MS + 60_000, NOW_MS + 5)]
    again = refuse(payload, made)
    assert (again.reason, again.command_id, again.verb) == (RefusalReason.REPLAY, "c-17", "pause")


def test_arguments_come_as_what_the_verb_asks_for() -> None:
    payload = sign(OFFICE, verb="install", args={"sha256": "ab" * 32, "size": 7})
    found = gate().judge(payload, NOW_MS)
    assert isinstance(found, SignedCommand)
    assert found.args == InstallArgs(sha256="ab" * 32, size=7)


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        (b"pause", "malformed", "malformed"),
        (forge(b"pause"), "malformed", "body"),
        (forge(body(verb="stop")), "not_allowed", "stop is not for this key; it may pause, resume"),
        (forge(body(args={"a": 1})), "malformed", "unknown field"),
        (sign(STRANGER), "stranger", "may tell this station nothing"),
        (sign().replace(b"pause", b"pausf"), "signature", "does not hold"),
        (sign(OFFICE), "not_allowed", "pause is not for this key; it may install"),
        (sign(station="hall-3/line-2/joint-02"), "station", "this is hall-3/line-2/joint-01"),
        (sign(lifetime_s=601), "lifetime", "601000 ms from t to exp; 1 to 600000"),
        (forge(body(exp=NOW_MS)), "lifetime", "0 ms"),
        (forge(body(exp=NOW_MS - 1)), "lifetime", "-1 ms"),
        (sign(now_unix_ms=NOW_MS + 30_001), "early", "30001 ms ahead"),
        (sign(now_unix_ms=NOW_MS - 60_000), "expired", "0 ms ago"),
        (sign(now_unix_ms=NOW_MS - 3_600_000), "expired", "3540000 ms ago"),
    ],
)
def test_each_refusal_says_why(payload: bytes, reason: str, words: str) -> None:
    memory = Memory()
    found = refuse(payload, gate(memory))
    assert found.reason.value == reason
    assert words in found.detail
    assert memory.asked == [], "no nonce is spent on what is not done"


@pytest.mark.parametrize("off_s", [-29.9, 0.0, 29.9])
def test_a_clock_that_is_little_off_is_borne(off_s: float) -> None:
    payload = sign(now_unix_ms=NOW_MS + round(off_s * 1000))
    assert isinstance(gate().judge(payload, NOW_MS), SignedCommand)


def test_a_station_that_does_not_know_the_time_refuses_by_what_it_has() -> None:
    # A board without battery begins in 1970, or when its image was made.
    assert refuse(sign(), now_unix_ms=86_400_000).reason is RefusalReason.EARLY
    assert refuse(sign(), now_unix_ms=NOW_MS + 10**11).reason is RefusalReason.EXPIRED


def test_a_retained_command_is_not_done_and_spends_nothing() -> None:
    memory = Memory()
    found = refuse(sign(), gate(memory), retained=True)
    assert found.reason is RefusalReason.REPLAY
    assert "retain" in found.words
    assert memory.asked == []


@pytest.mark.parametrize(
    ("memory", "reason", "words"),
    [
        (Memory("forgotten"), "expired", "clock was beyond exp before"),
        (Memory("full"), "memory", "wait some minutes"),
        (Memory(fault="outbox.nonces: the disk is full"), "memory", "the disk is full"),
    ],
)
def test_without_memory_nothing_is_done(memory: Memory, reason: str, words: str) -> None:
    found = refuse(sign(), gate(memory))
    assert found.reason.value == reason
    assert words in found.words


def test_without_keys_everybody_is_a_stranger() -> None:
    assert refuse(sign(), gate(keys=CommandKeys())).reason is RefusalReason.STRANGER


def test_settings_move_the_limits_of_time() -> None:
    strict = gate(skew_s=1.0, lifetime_s=5.0)
    assert refuse(sign(), strict).reason is RefusalReason.LIFETIME
    early = sign(lifetime_s=5, now_unix_ms=NOW_MS + 1001)
    assert refuse(early, strict).reason is RefusalReason.EARLY
    assert isinstance(strict.judge(sign(lifetime_s=5), NOW_MS), SignedCommand)


SOUND = sign(nonce=bytes(16))


@given(st.integers(0, len(SOUND) * 8 - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(SOUND)
    changed[bit // 8] ^= 1 << bit % 8
    memory = Memory()
    found = gate(memory).judge(bytes(changed), NOW_MS)
    assert isinstance(found, Refusal)
    assert found.reason.value in {"malformed", "stranger", "signature"}
    assert memory.asked == []


@given(st.binary(max_size=600), st.integers(0, 10**13), st.booleans())
def test_any_bytes_are_refused(payload: bytes, now_unix_ms: int, retained: bool) -> None:
    assert isinstance(gate().judge(payload, now_unix_ms, retained=retained), Refusal)


@given(st.binary(max_size=400))
def test_any_body_behind_a_sound_signature_is_refused(text: bytes) -> None:
    found = gate().judge(forge(text.decode("utf-8", "replace").encode()), NOW_MS)
    assert isinstance(found, Refusal)
    assert found.reason is RefusalReason.MALFORMED


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    for key in (OPERATOR, OFFICE):
        (tmp_path / f"{key.public.name}.pub").write_bytes(encode_public_key(key.public))
    return tmp_path


def test_a_key_that_stands_there_twice_may_do_both(trust: Path) -> None:
    keys = load_command_keys(
        [
            CommandKeySettings(path=trust / "operator.pub", verbs=("pause",)),
            CommandKeySettings(path=trust, verbs=("resume",)),
        ]
    )
    assert keys.verbs_of(OPERATOR.public.key_id) == {"pause", "resume"}
    assert keys.verbs_of(OFFICE.public.key_id) == {"resume"}
    assert keys.find(STRANGER.public.key_id) is None


@pytest.mark.parametrize("beside", [True, False])
def test_a_revoked_key_is_refused_wherever_its_revocation_lies(
    trust: Path, tmp_path: Path, beside: bool
) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    revoke_key(trust if beside else machine, OPERATOR.public)
    keys = load_command_keys(
        [CommandKeySettings(path=trust / "operator.pub", verbs=("pause",))], revocations=[machine]
    )
    assert keys.find(OPERATOR.public.key_id) is None
    assert refuse(sign(), gate(keys=keys)).reason is RefusalReason.REVOKED


def test_a_revocation_counts_while_the_station_runs_and_a_damaged_one_refuses_all(
    trust: Path,
) -> None:
    seen_s = [0.0]
    settings = [CommandKeySettings(path=trust / "operator.pub", verbs=("pause",))]
    ring = KeyRing(lambda: load_command_keys(settings), clock_s=lambda: seen_s[0])
    made = gate(keys=ring.look())
    assert isinstance(made.judge(sign(), NOW_MS), SignedCommand)
    damaged = revoke_key(trust, OFFICE.public)
    damaged.write_text("torn", encoding="utf-8")
    assert ring.look().find(OPERATOR.public.key_id), "it was looked at within this second"
    seen_s[0] += 1.0
    made.keys = ring.look()
    assert refuse(sign(), made).reason is RefusalReason.REVOKED
    assert "damaged revocation" in ring.fault
    damaged.unlink()
    seen_s[0] += 1.0
    made.keys = ring.look()
    assert ring.fault == ""
    assert isinstance(made.judge(sign(), NOW_MS), SignedCommand)


def test_a_key_that_is_missing_or_damaged_is_named(trust: Path) -> None:
    (trust / "bad.pub").write_text("no key", encoding="utf-8")
    for name in ("bad.pub", "none.pub"):
        with pytest.raises(ConfigurationError, match=rf"commands\.keys\[0\]\.path: .*{name}"):
            load_command_keys([CommandKeySettings(path=trust / name, verbs=("pause",))])
