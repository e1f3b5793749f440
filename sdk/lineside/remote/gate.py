"""Who may tell the station what, and when: every signed command passes here or is refused.

Pure but for the memory of nonces. The order of the checks is that of a bundle's: nothing inside the
body is parsed before its signature holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from lineside.bundle import PublicKey
from lineside.errors import InputDataError, StorageError
from lineside.mqtt.commands import find_id
from lineside.mqtt.topics import StationTopics
from lineside.remote.envelope import CommandBody, read_body, read_envelope
from lineside.remote.keys import CommandKeys
from lineside.remote.settings import LIFETIME_LIMIT_S, SKEW_S
from lineside.remote.verbs import Args, read_args

NonceAnswer = Literal["new", "known", "forgotten", "full"]


class RefusalReason(str, Enum):
    """Why a signed command is not done; the first word of the answer's ``detail``."""

    MALFORMED = "malformed"
    STRANGER = "stranger"
    REVOKED = "revoked"
    NOT_ALLOWED = "not_allowed"
    SIGNATURE = "signature"
    STATION = "station"
    EXPIRED = "expired"
    EARLY = "early"
    LIFETIME = "lifetime"
    REPLAY = "replay"
    MEMORY = "memory"


class NonceMemory(Protocol):
    """Knows the nonces of commands that have not expired; `lineside.remote.nonces` on a disk."""

    def remember(self, nonce: bytes, expires_unix_ms: int, now_unix_ms: int) -> NonceAnswer:
        """Whether it is ``new``; it is then remembered, durably, before this returns.

        Returns:
            ``known``: it was heard before. ``forgotten``: what expired then may have been heard and
            is no longer known. ``full``: so many are remembered that there is no room for another.

        Raises:
            StorageError: the disk takes nothing; it is not remembered.
        """


@dataclass(frozen=True, kw_only=True)
class SignedCommand:
    """A command that is to be done: every check has held and its nonce is spent.

    Attributes:
        args: of the kind that belongs to ``verb``.
        command_id: by the sender, for the answer.
        key: whose signature.
        nonce: 16 bytes.
        signed_unix_ms, expires_unix_ms: as signed.
    """

    verb: str
    args: Args
    command_id: str
    key: PublicKey
    nonce: bytes
    signed_unix_ms: int
    expires_unix_ms: int


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A command that is not done.

    Attributes:
        words: more about the reason, for people.
        command_id: as far as it could be read; not believed.
        verb: ``""`` where the signature does not hold.
        nonce: empty where the signature does not hold.
    """

    reason: RefusalReason
    words: str
    command_id: str = ""
    verb: str = ""
    nonce: bytes = b""

    @property
    def detail(self) -> str:
        """For the answer."""
        return f"{self.reason.value}: {self.words}"


class _RefusedCommand(Exception):
    """Ends a judgement."""

    def __init__(self, reason: RefusalReason, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


class Gate:
    """Judges signed commands, and counts those that it refuses. For one thread.

    Args:
        station: who we are.
        keys: whose command counts, for which verbs.
        nonces: what was heard before.
        skew_s: so far a signer's clock may be ahead of ours.
        lifetime_s: so long a command may be meant to live; its nonce is remembered as long.

    Attributes:
        keys: may be exchanged at any time.
    """

    def __init__(
        self,
        *,
        station: StationTopics | str,
        keys: CommandKeys,
        nonces: NonceMemory,
        skew_s: float = SKEW_S,
        lifetime_s: float = LIFETIME_LIMIT_S,
    ) -> None:
        self.keys = keys
        self._station = str(station)
        self._nonces = nonces
        self._skew_ms = round(skew_s * 1000)
        self._lifetime_ms = round(lifetime_s * 1000)
        self._refused = dict.fromkeys(RefusalReason, 0)

    @property
    def refused(self) -> Mapping[RefusalReason, int]:
        """How many were refused, by reason, since the start."""
        return self._refused

    def judge(
        self, payload: bytes, now_unix_ms: int, *, retained: bool = False
    ) -> SignedCommand | Refusal:
        """What to do with a payload of ``cmd/signed``.

        Args:
            payload: as it came.
            now_unix_ms: the station's clock.
            retained: the broker had kept it.
        """
        found: list[CommandBody] = []
        try:
            return self._judge(payload, now_unix_ms, retained, found)
        except _RefusedCommand as refused:
            reason, words = refused.reason, refused.words
        except InputDataError as error:
            reason, words = RefusalReason.MALFORMED, str(error)
        self._refused[reason] += 1
        return Refusal(
            reason=reason,
            words=words,
            command_id=found[0].id if found else find_id(payload),
            verb=found[0].verb if found else "",
            nonce=bytes.fromhex(found[0].nonce) if found else b"",
        )

    def _judge(
        self, payload: bytes, now_unix_ms: int, retained: bool, found: list[CommandBody]
    ) -> SignedCommand:
        if retained:
            words = "retained commands are not done; publish without the retain flag, and clear it"
            raise _RefusedCommand(RefusalReason.REPLAY, words)
        envelope = read_envelope(payload)
        key = self._find_key(envelope.key_id)
        if not key.holds(envelope.signature, envelope.signed):
            raise _RefusedCommand(RefusalReason.SIGNATURE, "it does not hold")
        body = read_body(envelope.body)
        found.append(body)
        self._check_place(body, key)
        self._check_times(body, now_unix_ms)
        args = read_args(body.verb, body.args, command_id=body.id)
        nonce = bytes.fromhex(body.nonce)
        self._spend(nonce, body.exp, now_unix_ms)
        return SignedCommand(
            verb=body.verb,
            args=args,
            command_id=body.id,
            key=key,
            nonce=nonce,
            signed_unix_ms=body.t,
            expires_unix_ms=body.exp,
        )

    def _find_key(self, key_id: bytes) -> PublicKey:
        if self.keys.is_revoked(key_id):
            raise _RefusedCommand(RefusalReason.REVOKED, f"key {key_id.hex()} was revoked here")
        key = self.keys.find(key_id)
        if key is None:
            words = f"key {key_id.hex()} may tell this station nothing"
            raise _RefusedCommand(RefusalReason.STRANGER, words)
        return key

    def _check_place(self, body: CommandBody, key: PublicKey) -> None:
        allowed = self.keys.verbs_of(key.key_id)
        if body.verb not in allowed:
            words = f"{body.verb[:16]} is not for this key; it may {', '.join(sorted(allowed))}"
            raise _RefusedCommand(RefusalReason.NOT_ALLOWED, words)
        if body.station != self._station:
            words = f"it is for {body.station[:64]}, this is {self._station}"
            raise _RefusedCommand(RefusalReason.STATION, words)

    def _check_times(self, body: CommandBody, now_unix_ms: int) -> None:
        lifetime_ms = body.exp - body.t
        if not 0 < lifetime_ms <= self._lifetime_ms:
            words = f"{lifetime_ms} ms from t to exp; 1 to {self._lifetime_ms} are taken"
            raise _RefusedCommand(RefusalReason.LIFETIME, words)
        if body.t > now_unix_ms + self._skew_ms:
            words = f"signed {body.t - now_unix_ms} ms ahead of the station's clock; see both"
            raise _RefusedCommand(RefusalReason.EARLY, words)
        if body.exp <= now_unix_ms:
            words = f"{now_unix_ms - body.exp} ms ago by the station's clock; sign it anew"
            raise _RefusedCommand(RefusalReason.EXPIRED, words)

    def _spend(self, nonce: bytes, expires_unix_ms: int, now_unix_ms: int) -> None:
        try:
            answer = self._nonces.remember(nonce, expires_unix_ms, now_unix_ms)
        except StorageError as error:
            raise _RefusedCommand(RefusalReason.MEMORY, str(error)) from error
        if answer == "known":
            raise _RefusedCommand(RefusalReason.REPLAY, "it was heard before; sign a new one")
        if answer == "forgotten":
            words = "the station's clock was beyond exp before and went back; sign it anew"
            raise _RefusedCommand(RefusalReason.EXPIRED, words)
        if answer == "full":
            words = "so many commands have not expired that no other is taken; wait some minutes"
            raise _RefusedCommand(RefusalReason.MEMORY, words)
