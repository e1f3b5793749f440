"""`lineside verify` over real bundles and both real engines."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from sysconfig import get_path
from typing import Any, Final, get_args

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_bundle import TinyBundle, openvino_files

from lineside.bundle import (
    Agreement,
    Decision,
    EscapeGuarantee,
    Evidence,
    Identity,
    Manifest,
    ModelEntry,
    PartCounts,
    PartData,
    load_private_key,
    make_thin_copy,
    open_bundle,
    seal_bundle,
    write_key_pair,
)
from lineside.bundle.evidence import Way
from lineside.cli.verify_decision import tell_decision, tell_guarantee
from lineside.cli.verify_report import explain
from lineside.contract import (
    AnomalyHead,
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    MemorySpec,
    OutputSpec,
    RegressionHead,
)
from lineside.golden import (
    GOLDEN_PART,
    GoldenExpectation,
    GoldenFrame,
    GoldenSamples,
    encode_golden,
)

PROGRAM: Final = Path(get_path("scripts")) / "lineside"
SIZE_HW: Final = (4, 6)
MODELS: Final = (
    ModelEntry(engine="openvino", precision="fp32", parts=("openvino/m.xml", "openvino/m.bin")),
    ModelEntry(engine="onnxruntime", precision="fp32", parts=("onnxruntime/m.onnx",)),
)


def mean_model() -> onnx.ModelProto:
    """The score is the mean pixel divided by 255."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *SIZE_HW, 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch"])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def counts(*, bad: int, good: int) -> PartCounts:
    return PartCounts(
        engine="openvino",
        precision="fp32",
        bad=bad,
        escaped=2,
        bad_reviewed=5,
        good=good,
        overkilled=11,
        good_reviewed=43,
    )


def describe() -> Manifest:
    return Manifest(
        identity=Identity(product="led-joint", version="1.2.3"),
        contract=Contract(
            product="led-joint",
            frame=FrameSpec(size_hw=SIZE_HW, channels=1),
            input=InputSpec(size_hw=SIZE_HW, channels=1),
            outputs=(OutputSpec(name="value"),),
            head=RegressionHead(target="brightness"),
        ),
        rule=LimitRule(ok_limit=0.4, not_ok_limit=0.6),
        models=MODELS,
        evidence=Evidence(
            agreements=(
                Agreement(
                    engine="openvino",
                    precision="fp32",
                    batch=1,
                    threads=1,
                    output="value",
                    samples=77,
                    max_abs_drift=0.00125,
                    mean_abs_drift=0.0005,
                    verdict_flips=3,
                    flip_bound=0.0625,
                ),
            ),
            metrics={"validation_mse": 0.03125},
            sample_counts={"golden": 3},
            samples_sha256="ab" * 32,
            decision=Decision(
                way="cost",
                wishes={"cost_escape": 50.0, "cost_review": 0.5},
                part_images="each",
                validation=(counts(bad=31, good=207),),
            ),
            guarantee=EscapeGuarantee(
                max_escape=0.02,
                confidence=0.9,
                ok_limit=0.4375,
                escape_bound=0.0176,
                limits_tested=73,
                limits_proven=61,
                assurance=(counts(bad=301, good=907),),
                unknown_samples=19,
                assurance_sha256="cd" * 32,
                date="2026-02-28",
            ),
        ),
        provenance={"commit": "0123abc"},
        licence="Apache-2.0",
    )


def golden(shift_by_engine: dict[str, float]) -> bytes:
    frames: list[NDArray[np.uint8]] = [np.full((*SIZE_HW, 1), v, np.uint8) for v in (0, 128, 255)]
    means = np.array([frame.mean() / 255 for frame in frames], np.float32)
    return encode_golden(
        GoldenSamples(
            frames=tuple(GoldenFrame.from_pixels(frame) for frame in frames),
            expectations=tuple(
                GoldenExpectation.from_values(
                    means + np.float32(shift_by_engine.get(model.engine, 0)),
                    engine=model.engine,
                    precision=model.precision,
                    output="value",
                    # Three float32 roundings of values up to 1 stay below 1e-6.
                    tolerance_abs=1e-6,
                )
                for model in MODELS
            ),
        )
    )


class Factory:
    """A key, and bundles sealed with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private, self.public = write_key_pair(folder, "factory")
        self.onnx = mean_model()
        self.xml, self.bin = openvino_files(self.onnx, folder)

    def seal(self, name: str, **shift_by_engine: float) -> Path:
        path = self.folder / name
        parts = [
            PartData(name=GOLDEN_PART, data=golden(shift_by_engine)),
            PartData(name="openvino/m.xml", data=self.xml, engine="openvino"),
            PartData(name="openvino/m.bin", data=self.bin, engine="openvino"),
            PartData(
                name="onnxruntime/m.onnx", data=self.onnx.SerializeToString(), engine="onnxruntime"
            ),
        ]
        seal_bundle(path, manifest=describe(), parts=parts, key=load_private_key(self.private))
        return path


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def good(factory: Factory) -> Path:
    return factory.seal("good.lsb")


def verify(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "verify", *map(str, words)], capture_output=True, text=True, env=environment
    )


def verify_json(*words: str | Path) -> tuple[int, dict[str, Any]]:
    done = verify(*words, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def test_a_good_bundle_is_proved_on_both_engines(factory: Factory, good: Path) -> None:
    code, found = verify_json(good, "--trust", factory.public)
    assert code == 0
    with open_bundle(good, trust=factory.public) as bundle:
        assert (found["hash"], found["model"]) == (bundle.hash, bundle.model_id)
        assert found["signer"] == {"key_id": bundle.signer.key_id.hex(), "name": "factory"}
    assert found["identity"]["version"] == "1.2.3"
    assert found["parts_left_out"] == []
    tests = {test["engine"]: test for test in found["self_tests"]}
    assert tests.keys() == {"openvino", "onnxruntime"}
    for test in tests.values():
        assert test["passed"] is True
        assert test["verdict_flips"] == 0
        assert test["outputs"][0]["samples"] == 3
    assert "manifest" not in found


def test_words_name_what_holds(factory: Factory, good: Path) -> None:
    done = verify(good, "--trust", factory.public)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("led-joint, version 1.2.3", "sealed by  factory", "4 of 4", "passed"):
        assert word in done.stdout


def test_explain_shows_all_that_is_sealed(factory: Factory, good: Path) -> None:
    done = verify(good, "--trust", factory.public, "--engine", "none", "--explain")
    assert done.returncode == 0
    words = ["score <= 0.4", "score > 0.6", "a human looks", "4x6 px", "brightness"]
    words += ["0.00125", "77", "validation_mse", "0.03125", "0123abc", "Apache-2.0", "ab" * 32]
    words += ["openvino/m.bin", "regression"]
    words += ["least cost on the validation parts: cost_escape 50, cost_review 0.5"]
    words += ["every image is an inspection", " 31 ", " 207 ", "48 (20.2 %)"]
    words += ["at most 2 % of bad parts are judged OK, with 90 % confidence", "up to 0.4375"]
    words += ["of 73 limits", "61 hold", "1.76 %", " 301 ", "48 (4.0 %)", "19 without a target"]
    words += ["2026-02-28", "cd" * 32]
    assert [word for word in words if word not in done.stdout] == []
    assert "self-test" not in done.stdout
    code, found = verify_json(good, "--trust", factory.public, "--engine", "none", "--explain")
    assert code == 0
    assert found["manifest"]["evidence"]["agreements"][0]["verdict_flips"] == 3
    assert found["manifest"]["evidence"]["guarantee"]["assurance"][0]["escaped"] == 2


def test_explain_shows_where_an_anomaly_is_looked_for_and_with_what_memory(
    anomaly_bundle: TinyBundle,
) -> None:
    sealed = anomaly_bundle.manifest
    told = explain(sealed)
    assert "head    anomaly from 'score'; classes good, bad; good good\n" in told
    assert "map     'map', regions are named where it is beyond 0.5\n" in told
    assert "memory" not in told
    contract = msgspec.structs.replace(
        sealed.contract,
        head=AnomalyHead(target="state", classes=("fine", "dust", "crack"), good=("fine", "dust")),
        memory=MemorySpec(width=384),
    )
    told = explain(msgspec.structs.replace(sealed, contract=contract))
    assert "anomaly: state from 'score'; classes fine, dust, crack; good fine, dust\n" in told
    assert "map     none: where a part is not OK, no region is named\n" in told
    assert "memory  'memory', patches of 384 numbers, float32\n" in told


def test_explain_says_so_where_nothing_is_promised() -> None:
    assert "not stated" in tell_decision(None)
    assert "nothing is promised" in tell_guarantee(None)


@pytest.mark.parametrize("way", get_args(Way))
def test_every_way_of_setting_limits_is_told(way: Way) -> None:
    bound = 0.0625 if way == "overkill" else None
    told = tell_decision(
        Decision(
            way=way,
            wishes={"max_overkill": 0.01},
            part_images="together",
            validation=(),
            overkill_bound=bound,
        )
    )
    assert "max_overkill 0.01" in told
    assert ("6.25 % of good parts NOT_OK at most" in told) == (way == "overkill")


def test_a_failed_self_test_is_exit_code_6_and_names_the_engine(factory: Factory) -> None:
    path = factory.seal("drifts.lsb", onnxruntime=1e-3)
    done = verify(path, "--trust", factory.public)
    assert done.returncode == 6
    assert "onnxruntime/fp32" in done.stderr
    assert "openvino" not in done.stderr
    assert "failed" in done.stdout
    code, found = verify_json(path, "--trust", factory.public)
    assert code == 6
    passed = {test["engine"]: test["passed"] for test in found["self_tests"]}
    assert passed == {"openvino": True, "onnxruntime": False}
    assert verify(path, "--trust", factory.public, "--engine", "openvino").returncode == 0


def test_a_thin_copy_is_proved_on_the_engine_it_has(factory: Factory, good: Path) -> None:
    with open_bundle(good, trust=factory.public) as bundle:
        thin = make_thin_copy(bundle, factory.folder / "thin.lsb", engine="onnxruntime")
    code, found = verify_json(thin, "--trust", factory.public)
    assert code == 0
    assert found["parts_left_out"] == ["openvino/m.xml", "openvino/m.bin"]
    states = {test["engine"]: test["status"] for test in found["self_tests"]}
    assert states == {"openvino": "skipped", "onnxruntime": "passed"}
    done = verify(thin, "--trust", factory.public, "--engine", "openvino")
    assert done.returncode == 6
    assert "not in this thin copy" in done.stderr


def test_refusals_are_exit_code_5_and_one_line(
    factory: Factory, good: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.lsb"
    data = bytearray(good.read_bytes())
    data[-1] ^= 1
    broken.write_bytes(data)
    _, stranger = write_key_pair(tmp_path, "stranger")
    for path, trust in ((broken, factory.public), (good, stranger), (tmp_path / "no", stranger)):
        done = verify(path, "--trust", trust)
        assert done.returncode == 5
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert str(path) in done.stderr


def test_trust_comes_from_the_environment_or_the_home(
    factory: Factory, good: Path, tmp_path: Path
) -> None:
    words = (good, "--engine", "none")
    assert verify(*words, LINESIDE_TRUST=str(factory.public)).returncode == 0
    folder = tmp_path / ".config" / "lineside" / "trust"
    folder.mkdir(parents=True)
    nothing = verify(*words, HOME=str(tmp_path))
    assert nothing.returncode == 4
    assert "--trust" in nothing.stderr
    (folder / "factory.pub").write_bytes(factory.public.read_bytes())
    assert verify(*words, HOME=str(tmp_path)).returncode == 0
