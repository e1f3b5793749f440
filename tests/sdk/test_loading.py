"""`lineside.load`: verified, proved, the faster one taken and remembered."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from tiny_bundle import TinyBundle, shift_expected

import lineside
from lineside.bundle import PartData, make_thin_copy, open_bundle, write_key_pair
from lineside.choose import Candidate, Choice, Measured, measure_medians, pick_way, thread_counts
from lineside.engines.cache import default_cache_folder
from lineside.engines.machine import usable_cores
from lineside.errors import (
    BundleFormatError,
    ConfigurationError,
    EngineError,
    ProviderError,
    SelfTestError,
    StorageError,
    UntrustedBundleError,
)
from lineside.golden import GOLDEN_PART
from lineside.inspector import Inspector
from lineside.verdict import Evaluation

ENGINES = ("onnxruntime", "openvino")


def loaded(tiny: TinyBundle, path: Path | None = None, **settings: object) -> Inspector:
    return lineside.load(path or tiny.path, trust=tiny.public_key_path, **settings)  # type: ignore[arg-type]


def drifted_for(tiny: TinyBundle, path: Path, *engines: str) -> Path:
    """A bundle whose golden samples do not come out for these engines."""
    return tiny.reseal_golden(
        path, lambda found: shift_expected(found, 0.1 if found.engine in engines else 0.0)
    )


def memories(folder: Path) -> list[Path]:
    return sorted((folder / "choice").glob("*"))


@pytest.mark.parametrize("name", ENGINES)
def test_a_named_engine_is_taken(tiny_bundle: TinyBundle, name: str) -> None:
    with loaded(tiny_bundle, engine=name, threads=1) as inspector:
        assert (inspector.engine.name, inspector.engine.threads) == (name, 1)
        assert inspector.choice is not None
        assert inspector.choice.taken == Candidate(engine=name, precision="fp32", threads=1)
        assert inspector.inspect(tiny_bundle.ok_frame_hwc).evaluation is Evaluation.OK
        assert inspector.inspect(tiny_bundle.not_ok_frame_hwc).evaluation is Evaluation.NOT_OK


def test_auto_measures_every_way_and_takes_the_best(
    tiny_bundle: TinyBundle, private_cache: Path
) -> None:
    with loaded(tiny_bundle) as inspector:
        choice = inspector.choice
    assert choice is not None
    assert not choice.remembered
    assert choice.refused == ()
    ways = {(found.candidate.engine, found.candidate.threads) for found in choice.measured}
    assert ways == {(name, count) for name in ENGINES for count in thread_counts(usable_cores())}
    assert choice.taken == pick_way(choice.measured).candidate
    assert len(memories(private_cache)) == 1


def test_the_choice_is_remembered_and_proved_again(tiny_bundle: TinyBundle) -> None:
    with loaded(tiny_bundle) as inspector:
        first = inspector.choice
    with loaded(tiny_bundle) as inspector:
        second = inspector.choice
        assert first is not None
        assert second == msgspec.structs.replace(first, remembered=True)
        assert inspector.engine.name == first.taken.engine
        assert inspector.engine.threads == first.taken.threads


def test_a_remembered_choice_is_for_this_bundle_alone(
    tiny_bundle: TinyBundle, tmp_path: Path, private_cache: Path
) -> None:
    loaded(tiny_bundle).close()
    other = tiny_bundle.reseal(
        tmp_path / "other.lsb",
        manifest=msgspec.structs.replace(tiny_bundle.manifest, licence="MIT"),
    )
    with loaded(tiny_bundle, other) as inspector:
        assert inspector.choice is not None
        assert not inspector.choice.remembered
    assert len(memories(private_cache)) == 2


def test_a_remembered_choice_is_for_these_provider_options_alone(
    tiny_bundle: TinyBundle, private_cache: Path
) -> None:
    for device_id in ("0", "1"):
        # Not asked for here, so not used; on a machine with CUDA another device is another speed.
        loaded(tiny_bundle, provider_options={"CUDA": {"device_id": device_id}}).close()
    assert len(memories(private_cache)) == 2


@pytest.mark.parametrize("content", [b"", b"torn{", b'{"taken": 3}', b"\xff" * 50])
def test_a_torn_memory_is_measured_again(
    tiny_bundle: TinyBundle, private_cache: Path, content: bytes
) -> None:
    loaded(tiny_bundle).close()
    (memory,) = memories(private_cache)
    memory.write_bytes(content)
    with loaded(tiny_bundle) as inspector:
        assert inspector.choice is not None
        assert not inspector.choice.remembered
    assert msgspec.json.decode(memory.read_bytes(), type=Choice).measured


@pytest.mark.timeout(60)
def test_a_pipe_in_the_memory_s_place_holds_nobody_up(
    tiny_bundle: TinyBundle, private_cache: Path
) -> None:
    loaded(tiny_bundle).close()
    [memory] = memories(private_cache)
    memory.unlink()
    os.mkfifo(memory)
    with loaded(tiny_bundle) as inspector:
        assert inspector.choice is not None
        assert not inspector.choice.remembered


def test_a_memory_that_names_what_is_not_offered_is_measured_again(
    tiny_bundle: TinyBundle, private_cache: Path
) -> None:
    loaded(tiny_bundle).close()
    (memory,) = memories(private_cache)
    strange = Choice(taken=Candidate(engine="openvino", precision="int4", threads=99))
    memory.write_bytes(msgspec.json.encode(strange))
    with loaded(tiny_bundle) as inspector:
        assert inspector.choice is not None
        assert not inspector.choice.remembered


@pytest.mark.parametrize(("broken", "taken"), [ENGINES, ENGINES[::-1]])
def test_an_engine_that_fails_the_self_test_is_reported_and_the_other_one_taken(
    tiny_bundle: TinyBundle,
    tmp_path: Path,
    broken: str,
    taken: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = drifted_for(tiny_bundle, tmp_path / "one.lsb", broken)
    with caplog.at_level(logging.WARNING, "lineside"), loaded(tiny_bundle, path) as inspector:
        choice = inspector.choice
        assert inspector.engine.name == taken
    assert choice is not None
    assert {found.candidate.engine for found in choice.refused} == {broken}
    assert all("self-test failed" in found.detail for found in choice.refused)
    assert f"{broken}/fp32 with 1 thread(s) is refused" in caplog.text


def test_when_no_engine_passes_each_is_named_with_its_reason(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    path = drifted_for(tiny_bundle, tmp_path / "none.lsb", *ENGINES)
    with pytest.raises(SelfTestError, match="no engine passes") as caught:
        loaded(tiny_bundle, path)
    for name in ENGINES:
        assert f"{name}/fp32 with 1 thread(s): " in str(caught.value)


@pytest.mark.parametrize("name", ENGINES)
def test_a_named_engine_that_fails_is_never_replaced(
    tiny_bundle: TinyBundle, tmp_path: Path, name: str
) -> None:
    path = drifted_for(tiny_bundle, tmp_path / "one.lsb", name)
    with pytest.raises(SelfTestError, match=f"{name}/fp32"):
        loaded(tiny_bundle, path, engine=name)


def test_a_provider_that_does_not_come_up_is_never_replaced(tiny_bundle: TinyBundle) -> None:
    for engine in ("auto", "onnxruntime"):
        with pytest.raises(ProviderError, match="no provider 'CUDA'"):
            loaded(tiny_bundle, engine=engine, providers=("CUDA", "CPU"))
    with pytest.raises(ProviderError, match="device 'GPU'"):
        loaded(tiny_bundle, engine="openvino", device="GPU")


def test_a_setting_that_is_not_the_named_engines_is_refused_not_passed_over(
    tiny_bundle: TinyBundle,
) -> None:
    with pytest.raises(ProviderError, match="is OpenVINO's"):
        loaded(tiny_bundle, engine="onnxruntime", device="GPU")
    with pytest.raises(ProviderError, match="are ONNX Runtime's"):
        loaded(tiny_bundle, engine="openvino", providers=("CPU",))


@pytest.mark.parametrize("kept", ENGINES)
def test_a_thin_copy_runs_with_the_engine_it_holds(
    tiny_bundle: TinyBundle, tmp_path: Path, kept: str
) -> None:
    thin = tmp_path / "thin.lsb"
    with open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as whole:
        make_thin_copy(whole, thin, engine=kept)
    with loaded(tiny_bundle, thin) as inspector:
        assert inspector.engine.name == kept
        assert inspector.choice is not None
        assert ["thin copy" in found.detail for found in inspector.choice.refused] == [True]
    (other,) = set(ENGINES) - {kept}
    with pytest.raises(SelfTestError, match="not in this thin copy"):
        loaded(tiny_bundle, thin, engine=other)


def test_a_precision_that_was_not_sealed_is_named(tiny_bundle: TinyBundle) -> None:
    with pytest.raises(SelfTestError, match="offers onnxruntime/fp32, openvino/fp32"):
        loaded(tiny_bundle, precision="int8")
    with loaded(tiny_bundle, precision="fp32", threads=1) as inspector:
        assert inspector.engine.precision == "fp32"


@pytest.mark.parametrize("wrong", [{"engine": "abacus"}, {"threads": 0}])
def test_a_wrong_setting_is_refused(tiny_bundle: TinyBundle, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        loaded(tiny_bundle, **wrong)


def test_an_untrusted_bundle_is_refused_before_any_engine_sees_it(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    _, stranger = write_key_pair(tmp_path, "stranger")
    with pytest.raises(UntrustedBundleError):
        lineside.load(tiny_bundle.path, trust=stranger)


def test_a_damaged_golden_part_is_a_bundle_error(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    noise = PartData(name=GOLDEN_PART, data=b"noise")
    path = tiny_bundle.reseal(tmp_path / "noise.lsb", changed=[noise])
    with pytest.raises(BundleFormatError, match="no golden samples"):
        loaded(tiny_bundle, path)


def test_a_folder_that_cannot_remember_costs_a_warning_only(
    tiny_bundle: TinyBundle, private_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    private_cache.touch()  # a file where the folder should be
    with caplog.at_level(logging.WARNING, "lineside"), loaded(tiny_bundle) as inspector:
        assert inspector.inspect(tiny_bundle.ok_frame_hwc).evaluation is Evaluation.OK
    assert "cannot be remembered" in caplog.text


def test_a_user_without_a_home_keeps_the_choice_where_services_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # `docker run --user 12345`: no HOME, and no line in /etc/passwd.
    for name in ("LINESIDE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert default_cache_folder() == Path("/var/cache/lineside")


def test_a_named_cache_folder_keeps_compiled_models_and_the_choice(
    tiny_bundle: TinyBundle, tmp_path: Path, private_cache: Path
) -> None:
    folder = tmp_path / "station-cache"
    with loaded(tiny_bundle, cache_folder=folder):
        pass
    assert memories(folder)
    assert any((folder / "openvino").iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    assert not private_cache.exists()
    with loaded(tiny_bundle, cache_folder=folder) as inspector:
        assert inspector.choice is not None
        assert inspector.choice.remembered


def test_a_named_cache_folder_that_others_may_write_to_is_refused(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    folder = tmp_path / "open-to-all"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StorageError, match="this user alone"):
        loaded(tiny_bundle, cache_folder=folder)


def test_closing_frees_engine_and_file(tiny_bundle: TinyBundle) -> None:
    inspector = loaded(tiny_bundle, threads=1)
    inspector.close()
    inspector.close()
    with pytest.raises(EngineError, match="closed"):
        inspector.engine.infer(np.zeros((1, 32, 32, 1), np.uint8))
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(tiny_bundle.path) not in mapped


_LOADS: Final = """
import sys, lineside
file, key, engine = sys.argv[1:]
inspector = lineside.load(file, trust=key, engine=engine, threads=1)
print("cv2" in sys.modules)
"""


@pytest.mark.parametrize("kind", ["tiny_bundle", "anomaly_bundle"])
def test_opencv_is_loaded_with_the_model_that_needs_it_and_with_no_other(
    kind: str, request: pytest.FixtureRequest
) -> None:
    tiny: TinyBundle = request.getfixturevalue(kind)
    words = (tiny.path, tiny.public_key_path, "onnxruntime")
    done = subprocess.run(
        [sys.executable, "-c", _LOADS, *words], capture_output=True, text=True, check=True
    )
    # The anomaly model's frames are resized and its map outlined: no part may wait for that.
    assert done.stdout.strip() == str(kind == "anomaly_bundle")


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (8, (1, 4, 8))]
)
def test_few_thread_counts_are_tried(cores: int, expected: tuple[int, ...]) -> None:
    assert thread_counts(cores) == expected


def way(threads: int, median_us: float, engine: str = "openvino") -> Measured:
    return Measured(
        candidate=Candidate(engine=engine, precision="int8", threads=threads), median_us=median_us
    )


@pytest.mark.parametrize(
    ("measured", "taken"),
    [
        ([way(1, 1000)], 0),
        ([way(1, 1000), way(2, 950)], 0),  # a near tie: one thread
        ([way(1, 1000), way(2, 520)], 1),
        ([way(2, 1000), way(1, 2000, "onnxruntime"), way(1, 1090)], 2),
        ([way(1, 1050), way(1, 1000, "onnxruntime")], 1),  # as many threads: the faster one
        ([way(1, 2000), way(4, 1000), way(8, 960)], 1),
    ],
)
def test_more_threads_must_save_a_tenth(measured: list[Measured], taken: int) -> None:
    assert pick_way(measured) is measured[taken]


def test_the_measurement_tells_a_slow_engine_from_a_fast_one() -> None:
    class Sleeps:
        """Our protocol in memory: takes as long as it is told."""

        name, precision, threads, description = "sleeps", "fp32", 1, ""

        def __init__(self, pause_s: float) -> None:
            self.pause_s = pause_s

        def infer(self, inputs_nhwc: np.ndarray) -> dict[str, np.ndarray]:
            time.sleep(self.pause_s)
            return {}

        def close(self) -> None:
            pass

    slow, fast = measure_medians([Sleeps(0.004), Sleeps(0.001)], np.zeros((2, 1, 1, 1), np.uint8))
    assert slow >= 4000
    assert 1000 <= fast < slow
