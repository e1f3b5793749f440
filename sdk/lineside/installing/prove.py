"""A process of its own that runs the golden self-test: ``python -m lineside.installing.prove``.

An engine is millions of lines of others' code, and a model it never met may end or hang it. Then it
ends this process and not the station that inspects meanwhile.

The order comes in on standard input, the answer goes out on standard output, both as JSON.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from lineside.bundle import Bundle, PublicKey, TrustedKeys, open_bundle
from lineside.choose import list_candidates
from lineside.engines import EngineSettings, open_engine
from lineside.engines.cache import private_folder
from lineside.errors import (
    BundleError,
    ConfigurationError,
    EngineError,
    LinesideError,
    ProviderError,
    SelfTestError,
)
from lineside.installing.proof import Proof, ProofAnswer, ProofOrder
from lineside.selftest import run_selftest

_NICENESS: Final = 10
_GRACE_S: Final = 5.0
# The first to go where memory runs out: the station must not.
_OOM_SCORE: Final = "1000"


def prove(order: ProofOrder) -> Proof:
    """The first form of the model that passes here, computed by as many threads as are told.

    The fastest is not looked for: measuring would disturb the station that inspects beside us, and
    be disturbed by it.

    Raises:
        BundleError: it is refused after all.
        ProviderError: a provider or device that was asked for did not come up.
        SelfTestError: no form passes.
    """
    trusted = TrustedKeys(keys=(PublicKey(raw=order.signer),))
    with open_bundle(order.path, trust=trusted) as bundle:
        return _prove_any(bundle, order)


def _prove_any(bundle: Bundle, order: ProofOrder) -> Proof:
    ways, passed_over = list_candidates(
        bundle, engine=order.engine, precision=order.precision, threads=order.threads
    )
    refused = [f"{found.candidate.told()}: {found.detail}" for found in passed_over]
    settings = _settings(order)
    for model, candidate in ways:
        try:
            engine = open_engine(model, bundle.part, bundle.manifest.contract, settings)
            with contextlib.closing(engine):
                result = run_selftest(bundle, engine)
        except ProviderError:
            raise  # asked for by name: another in its place would be a silent replacement
        except EngineError as error:
            refused.append(f"{candidate.told()}: {error}")
        else:
            return Proof(
                bundle_hash=bundle.hash,
                threads=order.threads,
                selftest=result,
                refused=tuple(refused),
            )
    raise SelfTestError(
        f"{bundle.path}: no engine passes on this machine: "
        + ("; ".join(refused) or f"the bundle has no model for {order.engine}")
    )


def _settings(order: ProofOrder) -> EngineSettings:
    folder = order.cache_folder
    return EngineSettings(
        threads=order.threads,
        providers=order.providers,
        provider_options=order.provider_options,
        device=order.device,
        cache_folder=None if folder is None else private_folder(Path(folder)),
    )


def answer(order: ProofOrder) -> ProofAnswer:
    """The same; an error of ours becomes words."""
    try:
        return ProofAnswer(proof=prove(order))
    except SelfTestError as error:
        return ProofAnswer(fault="selftest", words=str(error))
    except EngineError as error:
        return ProofAnswer(fault="engine", words=str(error))
    except BundleError as error:
        return ProofAnswer(fault="bundle", words=str(error))
    except ConfigurationError as error:
        return ProofAnswer(fault="configuration", words=str(error))
    except LinesideError as error:
        return ProofAnswer(fault="other", words=str(error))


def main() -> None:
    """Read the order, give way to whoever inspects, answer."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=ProofOrder)
    # The kernel ends us, also within an engine's own loop, and also where the parent is gone.
    signal.alarm(math.ceil(order.limit_s + _GRACE_S))
    _give_way()
    # Engines write where they like; the answer's line is ours alone.
    answers = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answers, "wb") as file:
        file.write(msgspec.json.encode(answer(order)))


def _give_way() -> None:
    with contextlib.suppress(OSError):
        # Niceness says nothing under a real-time policy, which a station may have been given.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


if __name__ == "__main__":
    main()
