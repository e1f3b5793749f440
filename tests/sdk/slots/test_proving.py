"""The golden self-test in a process of its own: what passes, fails, crashes and hangs there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tiny_bundle import TinyBundle, shift_expected

from lineside.bundle import open_bundle
from lineside.engines import EngineSettings
from lineside.errors import EngineError, SelfTestError
from lineside.installing.proof import ProofAnswer, ProofOrder
from lineside.installing.prove import answer
from lineside.installing.proving import prove_apart

MODULE = "lineside.installing.prove"


@pytest.fixture
def order(tiny_bundle: TinyBundle) -> ProofOrder:
    return ProofOrder(
        path=str(tiny_bundle.path),
        signer=tiny_bundle.key().public.raw,
        engine="onnxruntime",
        precision=None,
        threads=1,
        providers=(),
        provider_options={},
        device="CPU",
        cache_folder=None,
        limit_s=60.0,
    )


def changed(order: ProofOrder, **fields: object) -> ProofAnswer:
    return answer(msgspec.structs.replace(order, **fields))


def engine_that(does: str, folder: Path) -> Path:
    """A vendor's module as bad as they come."""
    package = folder / "engines" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        f"import os, sys, time\nprint('I greet on your output', flush=True)\n{does}\n", "utf-8"
    )
    return package.parent


# --- in the child -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_engine_that_was_named_is_proved(order: ProofOrder, engine: str) -> None:
    found = changed(order, engine=engine)
    assert found.fault == "", found.words
    assert found.proof is not None
    assert found.proof.engine == f"{engine}/fp32"
    assert found.proof.selftest.passed


def test_of_several_forms_the_first_that_passes_is_enough(
    order: ProofOrder, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    half = tiny_bundle.reseal_golden(
        tmp_path / "half.lsb",
        lambda sealed: shift_expected(sealed, 0.2) if sealed.engine == "onnxruntime" else sealed,
    )
    found = changed(order, path=str(half), engine="auto")
    assert found.proof is not None
    assert found.proof.engine == "openvino/fp32"
    assert any("onnxruntime/fp32" in words for words in found.proof.refused)


def test_what_does_not_pass_is_told_by_its_family(
    order: ProofOrder, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    shifted = tiny_bundle.reseal_golden(
        tmp_path / "shifted.lsb", lambda sealed: shift_expected(sealed, 0.2)
    )
    faults = {
        "selftest": changed(order, path=str(shifted)),
        "bundle": changed(order, signer=bytes(32)),
        "engine": changed(order, providers=("CUDA",)),
        "configuration": changed(order, threads=5000),
    }
    assert {family: found.fault for family, found in faults.items()} == {
        family: family for family in faults
    }
    assert "drifts 0.2" in faults["selftest"].words
    assert all(found.proof is None and found.words for found in faults.values())


# --- from the parent ----------------------------------------------------------------------------


def test_a_sound_bundle_is_proved_apart_whatever_the_engine_prints(
    tiny_bundle: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It greets, looks around, steps aside and lets the true one be imported in its place.
    seen = tmp_path / "seen"
    chatty = engine_that(
        "score = open('/proc/self/oom_score_adj').read().strip()\n"
        f"print(os.nice(0), score, os.getcwd(), file=open({str(seen)!r}, 'w'))\n"
        "here = sys.path.index(os.path.dirname(os.path.dirname(__file__)))\n"
        "del sys.path[here], sys.modules['onnxruntime']\nimport onnxruntime",
        tmp_path,
    )
    monkeypatch.syspath_prepend(str(chatty))
    with open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle:
        proof = prove_apart(bundle, engine="onnxruntime")
        assert proof.bundle_hash == bundle.hash
    assert (proof.engine, proof.threads) == ("onnxruntime/fp32", 1)
    assert proof.selftest.passed
    niceness, score, folder = seen.read_text("utf-8").split()
    assert int(niceness) > os.nice(0) or int(niceness) == 19
    assert (score, folder) == ("1000", "/")


def test_an_engine_that_crashes_ends_its_process_and_not_this_one(
    tiny_bundle: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = engine_that("print('out of tensors', file=sys.stderr)\nos.abort()", tmp_path)
    monkeypatch.syspath_prepend(str(crashing))
    with (
        open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle,
        pytest.raises(SelfTestError, match=r"signal 6.*out of tensors.*--engine"),
    ):
        prove_apart(bundle, engine="onnxruntime")


def test_one_that_hangs_is_ended(tiny_bundle: TinyBundle) -> None:
    with (
        open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle,
        pytest.raises(SelfTestError, match=r"did not end within 0\.05 s"),
    ):
        prove_apart(bundle, timeout_s=0.05)


def test_and_ends_itself_where_nobody_is_left_to_do_it(order: ProofOrder, tmp_path: Path) -> None:
    hanging = engine_that("time.sleep(3600)", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=msgspec.json.encode(msgspec.structs.replace(order, limit_s=-4.5)),
        env={"PYTHONPATH": ":".join([str(hanging), *sys.path])},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (-14, b"")  # SIGALRM


def test_an_error_of_the_child_is_raised_as_what_it_is(tiny_bundle: TinyBundle) -> None:
    with (
        open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle,
        pytest.raises(EngineError, match="CUDA"),
    ):
        prove_apart(bundle, engine="onnxruntime", settings=EngineSettings(providers=("CUDA",)))
