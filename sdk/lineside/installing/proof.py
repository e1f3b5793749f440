"""What the process that proves a bundle is told, and what it answers; both as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from lineside.selftest import SelfTestResult


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The golden self-test held on this machine.

    Attributes:
        bundle_hash: of what was proved, 64 hex digits.
        threads: it computed with.
        selftest: engine, precision and the numbers.
        refused: other forms that were tried before and did not hold, each in words.
    """

    bundle_hash: str
    threads: int
    selftest: SelfTestResult
    refused: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        """The form that held, e.g. ``openvino/int8``."""
        return f"{self.selftest.engine}/{self.selftest.precision}"


class ProofOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to prove, and with what.

    Attributes:
        path: the bundle's file, absolute.
        signer: whose seal it must have: the raw public key.
        engine: ``auto`` or one engine's name.
        precision: only this one; ``None`` takes any.
        threads: to compute with.
        providers, provider_options, device, cache_folder: see `lineside.engines.EngineSettings`.
        limit_s: the process ends itself a little later, should nobody end it.
    """

    path: str
    signer: bytes
    engine: str
    precision: str | None
    threads: int
    providers: tuple[str, ...]
    provider_options: dict[str, dict[str, str]]
    device: str
    cache_folder: str | None
    limit_s: float


class ProofAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Either the proof or why there is none.

    Attributes:
        proof: it held.
        fault: of which family the error was; empty where it held.
        words: the error's.
    """

    proof: Proof | None = None
    fault: Literal["", "bundle", "engine", "selftest", "configuration", "other"] = ""
    words: str = ""
