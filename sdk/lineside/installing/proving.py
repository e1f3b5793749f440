"""The golden self-test in a process of its own, whose time is bounded. The parent's side."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import msgspec

from lineside.bundle import Bundle
from lineside.engines import EngineSettings
from lineside.errors import (
    BundleError,
    ConfigurationError,
    EngineError,
    LinesideError,
    SelfTestError,
    StorageError,
)
from lineside.installing.proof import Proof, ProofAnswer, ProofOrder

SELFTEST_LIMIT_S: Final = 120.0
_WORDS_BYTES: Final = 400
_ERRORS: Final[dict[str, type[LinesideError]]] = {
    "bundle": BundleError,
    "engine": EngineError,
    "selftest": SelfTestError,
    "configuration": ConfigurationError,
    "other": LinesideError,
}


def prove_apart(
    bundle: Bundle,
    *,
    engine: str = "auto",
    precision: str | None = None,
    settings: EngineSettings | None = None,
    timeout_s: float = SELFTEST_LIMIT_S,
) -> Proof:
    """Prove a bundle in another process, so that what crashes or hangs is not this one.

    Args:
        bundle: opened and verified; the other process opens its file anew and verifies it again.
        engine: ``auto`` or one engine's name.
        precision: only this one; ``None`` takes any.
        settings: providers, device, threads; without threads it computes with one, to leave the
            others to whoever inspects meanwhile.
        timeout_s: then it is ended.

    Raises:
        SelfTestError: no form passes; the process crashed, or did not end in time.
        EngineError: a provider or device did not come up.
        BundleError: the file is not what was verified here.
    """
    order = _order(bundle, engine, precision, settings or EngineSettings(), timeout_s)
    with _words_aside() as said:
        done = _run(order, said, str(bundle.path))
        proof = _read(done, said, str(bundle.path))
    if proof.bundle_hash != bundle.hash:
        raise BundleError(f"{bundle.path}: was exchanged while it was proved: install it again")
    return proof


def _words_aside() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise StorageError(
            f"{tempfile.gettempdir()}: the golden self-test needs room there: {error.strerror}"
        ) from error


def _order(
    bundle: Bundle,
    engine: str,
    precision: str | None,
    settings: EngineSettings,
    timeout_s: float,
) -> ProofOrder:
    folder = settings.cache_folder
    return ProofOrder(
        path=str(bundle.path.absolute()),
        signer=bundle.signer.raw,
        engine=engine,
        precision=precision,
        threads=settings.threads or 1,
        providers=settings.providers,
        provider_options={name: dict(given) for name, given in settings.provider_options.items()},
        device=settings.device,
        cache_folder=None if folder is None else str(folder.absolute()),
        limit_s=timeout_s,
    )


def _run(order: ProofOrder, said: IO[bytes], source: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [sys.executable, "-m", "lineside.installing.prove"],
            input=msgspec.json.encode(order),
            stdout=subprocess.PIPE,
            stderr=said,
            # `-m` looks into the working folder first, where anybody may have put a numpy.py.
            cwd="/",
            env=_environment(),
            timeout=order.limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SelfTestError(
            f"{source}: the golden self-test did not end within {order.limit_s:g} s: the model is "
            "too slow for this machine, or its engine hangs; look with lineside verify"
        ) from error
    except OSError as error:
        raise StorageError(
            f"{sys.executable}: no process for the golden self-test: {error.strerror}; give this "
            "machine memory, or this user more processes"
        ) from error


def _environment() -> dict[str, str]:
    """This process's, with its modules; without systemd's socket, which is for the station."""
    kept = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    places = [str(Path(place).absolute()) for place in sys.path if place]
    return {**kept, "PYTHONPATH": os.pathsep.join(places)}


def _read(done: subprocess.CompletedProcess[bytes], said: IO[bytes], source: str) -> Proof:
    try:
        answer = msgspec.json.decode(done.stdout, type=ProofAnswer)
    except msgspec.MsgspecError as error:
        raise SelfTestError(
            f"{source}: the golden self-test ended without an answer ({_end(done.returncode)}): "
            f"{_last_words(said) or 'no word'}. Try the other engine (--engine), or export for "
            "this machine"
        ) from error
    if answer.proof is None:
        raise _ERRORS.get(answer.fault, LinesideError)(answer.words)
    return answer.proof


def _end(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"


def _last_words(said: IO[bytes]) -> str:
    size_bytes = said.seek(0, os.SEEK_END)
    said.seek(max(0, size_bytes - _WORDS_BYTES))
    return " ".join(said.read().decode("utf-8", "replace").split())
