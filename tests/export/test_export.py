"""`lineside export` from folder to sealed file: what is in it, what is refused, same bytes."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import nn

import lineside
from lineside.bundle import open_bundle
from lineside.candidate import read_samples
from lineside.engines import silence_telemetry
from lineside.engines.machine import usable_cores
from lineside.errors import KeyFileError, LinesideError, SigningError, StorageError
from lineside.frame import read_frame
from lineside_export.cli import export
from lineside_export.errors import CandidateError, ExportError, GateError, GraphError
from lineside_export.quantize import MAX_SAMPLES, choose_samples

THREADS = (1, 2)[: usable_cores()]
PIXELS = torch.zeros(5, 64, 64, 1, dtype=torch.uint8)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def refused(result: Result) -> LinesideError:
    assert isinstance(result.exception, LinesideError), result.exception
    return result.exception


@pytest.fixture
def broken(small_candidate: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(small_candidate, tmp_path / "candidate"))


def test_a_device_takes_the_bundle_and_judges_with_it(exported: Any) -> None:
    frames = np.load(exported.candidate / "samples.npz")["validation_pixels"].reshape(80, 64, 64, 1)
    for engine in ("onnxruntime", "openvino"):
        with lineside.load(exported.bundle, trust=exported.trust, engine=engine) as inspector:
            verdicts = [inspector.inspect(frame) for frame in frames[:8]]
        assert {verdict.product for verdict in verdicts} == {"led-joint"}
        assert {verdict.evaluation.name for verdict in verdicts} == {"OK", "NOT_OK"}


def test_two_processes_give_the_same_bytes(exported: Any, tmp_path: Path) -> None:
    again = tmp_path / "again.lsb"
    copied = shutil.copytree(exported.candidate, tmp_path / "elsewhere" / "candidate")
    code = "from lineside_export.cli import export; export()"
    command = [sys.executable, "-c", code, copied, "--out", again, "--key", exported.key]
    command += ["--precision", "int8", "--max-flips", "4", "--max-drop", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == exported.bundle.read_bytes()
    # The vendors' bars and warnings would drown ours.
    assert "torch fp32" in done.stdout
    assert all(" s  " in line for line in done.stderr.splitlines()), done.stderr
    assert "nncf" not in done.stdout.lower() + done.stderr.lower()


def test_the_manifest_holds_what_was_measured(exported: Any) -> None:
    with open_bundle(exported.bundle, trust=exported.trust) as bundle:
        manifest = bundle.manifest
    assert [(m.engine, m.precision, m.batch) for m in manifest.models] == [
        ("onnxruntime", "int8", 1),
        ("openvino", "int8", 1),
    ]
    measured = {(a.engine, a.precision): a for a in manifest.evidence.agreements}
    assert set(measured) == {
        (engine, precision)
        for engine in ("onnxruntime", "openvino")
        for precision in ("fp32", "int8")
    }
    for (_, precision), agreement in measured.items():
        # Measured here: fp32 1e-7, int8 1e-2 of scores around 0.05.
        assert (agreement.max_abs_drift < 1e-5) == (precision == "fp32")
        assert agreement.samples == 80
    assert manifest.rule.ok_limit == 0.06
    assert manifest.evidence.sample_counts == {"quantisation": 40, "validation": 80, "golden": 40}
    assert manifest.provenance["data"] == "discs"
    assert manifest.provenance["export.reference"] == "torch fp32"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", manifest.provenance["export.commit"])
    assert manifest.licence == ""
    assert set(manifest.evidence.metrics) == {
        "validation_mse_torch_fp32",
        *(f"validation_mse_{engine}_{precision}" for engine, precision in measured),
    }
    assert exported.document["hash"] == bundle.hash


def test_json_is_one_document_and_the_words_go_to_people(exported: Any) -> None:
    assert exported.document["size_bytes"] == exported.bundle.stat().st_size
    agreements = exported.document["agreements"]
    # Both engines, float and int8, alone and eight at once, on one thread and on two.
    ways = {tuple(a[k] for k in ("engine", "precision", "batch", "threads")) for a in agreements}
    assert len(ways) == len(agreements)
    assert ways == set(
        itertools.product(("onnxruntime", "openvino"), ("fp32", "int8"), (1, 8), THREADS)
    )
    assert "computed by" in exported.words


def test_int8_is_int8_small_and_takes_any_batch(exported: Any) -> None:
    with open_bundle(exported.bundle, trust=exported.trust) as bundle:
        data = bytes(bundle.part("onnxruntime/model.onnx"))
        xml = bytes(bundle.part("openvino/model.xml"))
        openvino_bytes = len(xml) + len(bundle.part("openvino/model.bin"))
    model = onnx.load_from_string(data)
    operators = [node.op_type for node in model.graph.node]
    # Two blocks: patch convolution, and by block four linear layers at least.
    assert operators.count("QuantizeLinear") >= 9
    int8 = sum(t.data_type == onnx.TensorProto.INT8 for t in model.graph.initializer)
    assert int8 >= 9
    silence_telemetry()
    assert xml.count(b'type="FakeQuantize"') >= 9
    float_bytes = (exported.candidate / "program.pt2").stat().st_size
    assert len(data) < 0.4 * float_bytes
    assert openvino_bytes < 0.4 * float_bytes

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 1), dtype=np.uint8)
    (together,) = session.run(["value"], {"image": images})
    one_by_one = [session.run(["value"], {"image": images[i : i + 1]})[0] for i in range(8)]
    # A sum in another order may tip one int8 step (measured: 3e-6 for ViT-Ti, a step is 1e-3).
    np.testing.assert_allclose(np.concatenate(one_by_one), together, atol=2e-3)


def test_figures_lie_beside_the_bundle(exported: Any) -> None:
    folder = exported.bundle.with_name("joint.lsb.report")
    document = json.loads((folder / "parity.json").read_text())
    assert [form["sealed"] for form in document["forms"]] == [False, True, False, True]
    assert all(form["missed_gates"] == [] for form in document["forms"])
    assert len(document["ways"]) == 8 * len(THREADS)
    assert {"machine", "versions", "samples_sha256"} <= set(document)
    assert (folder / "parity.png").read_bytes().startswith(b"\x89PNG")
    left = sorted(path.name for path in exported.bundle.parent.iterdir())
    assert left == ["joint.lsb", "joint.lsb.report"]


def test_fp32_for_one_engine(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "float.lsb"
    done = run(
        *(small_candidate, "--out", out, "--key", key_pair[0], "--precision", "fp32"),
        *("--engines", "openvino", "--limit", "0.05", "--worse", "lower"),
        *("--product-version", "2.1.0", "--security-counter", "7"),
        *("--licence", "LicenseRef-Acme AND Apache-2.0"),
    )
    assert done.exit_code == 0, done.exception
    with open_bundle(out, trust=key_pair[1]) as bundle:
        manifest = bundle.manifest
        assert [(m.engine, m.precision) for m in manifest.models] == [("openvino", "fp32")]
        assert (manifest.rule.ok_limit, manifest.rule.worse) == (0.05, "lower")
        assert (manifest.identity.version, manifest.identity.security_counter) == ("2.1.0", 7)
        assert manifest.licence == "LicenseRef-Acme AND Apache-2.0"
        assert set(bundle.present) == {
            *("golden.msgpack", "drift.msgpack"),
            *("openvino/model.xml", "openvino/model.bin"),
        }


def test_figures_that_cannot_be_written_stop_the_export(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file, and no folder")
    out = tmp_path / "x.lsb"
    arguments = (small_candidate, "--out", out, "--key", key_pair[0], "--precision", "fp32")
    error = refused(run(*arguments, "--report", tmp_path / "taken" / "figures"))
    assert isinstance(error, StorageError)
    assert not out.exists()


def test_onnx_from_elsewhere_goes_the_same_road(
    broken: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    from lineside_export.candidate import read_candidate
    from lineside_export.formats import read_source

    (broken / "model.onnx").write_bytes(read_source(read_candidate(broken)).data)
    (broken / "program.pt2").unlink()
    out = tmp_path / "foreign.lsb"
    arguments = (broken, "--out", out, "--key", key_pair[0], "--precision", "fp32", "--json")
    done = run(*arguments, "--engines", "openvino")
    assert done.exit_code == 0, done.exception
    with open_bundle(out, trust=key_pair[1]) as bundle:
        assert bundle.manifest.provenance["export.reference"] == "onnxruntime fp32"
        assert bundle.manifest.provenance["export.program"] == "model.onnx"


def test_without_any_limit_the_flag_is_named(
    broken: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    contract = json.loads((broken / "contract.json").read_text())
    del contract["proposed_rule"]
    (broken / "contract.json").write_text(json.dumps(contract))
    error = refused(run(broken, "--out", tmp_path / "x.lsb", "--key", key_pair[0]))
    assert isinstance(error, ExportError)
    assert "--limit" in str(error)


def test_wrong_use_is_told_before_any_work(
    candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out, key = tmp_path / "x.lsb", key_pair[0]
    for arguments, words in (
        ((candidate, "--out", out, "--key", key, "--engines", "tflite"), "'tflite'; there are"),
        ((candidate, "--out", out, "--key", key, "--engines", ","), "name at least one"),
        ((candidate, "--out", out, "--key", key, "--worse", "lower"), "--worse"),
        ((candidate, "--out", out, "--key", key, "--max-drop", "-1"), "--max-drop"),
        ((candidate, "--out", out, "--key", key, "--max-drop", "nan"), "nan is not finite"),
        ((candidate, "--out", out, "--key", key, "--limit", "inf"), "inf is not finite"),
        ((candidate, "--out", tmp_path / "no" / "x.lsb", "--key", key), "is not there"),
        ((candidate, "--out", out, "--key", key, "--licence", "a\nb"), "--licence"),
        ((candidate, "--out", out, "--key", key, "--licence", "x" * 2001), "--licence"),
        ((candidate, "--key", key), "--out"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output
    missing = refused(run(candidate, "--out", out, "--key", tmp_path / "no.key"))
    assert isinstance(missing, KeyFileError)
    public = refused(run(candidate, "--out", out, "--key", key_pair[1]))
    assert isinstance(public, KeyFileError)
    token = refused(run(candidate, "--out", out, "--key", "yubihsm:3"))
    assert isinstance(token, SigningError)
    unnamed = run(candidate, "--out", out, "--key", key, "--product-version", "")
    assert "--product-version" in str(refused(unnamed))
    assert unnamed.output == ""


def test_golden_samples_that_prove_nothing_leave_nothing(
    broken: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    archive = dict(np.load(broken / "samples.npz"))
    archive["golden_pixels"][:] = archive["golden_pixels"][0]
    np.savez(broken / "samples.npz", **archive)
    arguments = (broken, "--out", tmp_path / "x.lsb", "--key", key_pair[0], "--precision", "fp32")
    error = refused(run(*arguments, "--engines", "onnxruntime"))
    assert isinstance(error, GateError)
    assert [path.name for path in tmp_path.iterdir()] == ["candidate"]


class Faint(nn.Module):
    """Brightness in a signal far below int8's steps: quantising must destroy it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(64 * 64, 64)
        self.last = nn.Linear(64, 1)
        with torch.no_grad():
            self.first.weight *= 0.01
            # Two large features that cancel: the difference drowns in the steps of the large.
            self.first.weight[0] = 0.05
            self.first.weight[1] = 0.05
            self.last.weight[0, 0] = 40.0
            self.last.weight[0, 1] = -40.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = self.first(image.float().flatten(1) / 255.0)
        noise = hidden[:, :2] * torch.tensor([1.0, 1.001])
        return self.last(torch.cat([noise, hidden[:, 2:]], dim=1).relu())[:, 0]


def test_an_int8_that_does_not_hold_shows_the_table_and_leaves_nothing(
    new_candidate: Callable[..., Path], key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = new_candidate(tmp_path / "faint", module=Faint(), noise=0.0)
    out = tmp_path / "faint.lsb"
    arguments = (folder, "--out", out, "--key", key_pair[0], "--engines", "onnxruntime")
    arguments += ("--precision", "int8")
    done = run(*arguments, "--max-flips", "0")
    error = refused(done)
    assert isinstance(error, GateError)
    assert error.exit_code == 1
    assert error.failures
    assert "onnxruntime int8" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["faint"]
    figures = tmp_path / "why"
    frames = read_samples(folder / "samples.npz")["validation"].frames_hwc
    refused(run(*arguments, "--max-flips", "0", "--report", figures))
    (_, int8) = json.loads((figures / "parity.json").read_text())["forms"]
    assert int8["missed_gates"] and not int8["sealed"]
    assert len(int8["flipped"]) == int8["verdict_flips"]
    for flip in int8["flipped"]:
        frame = read_frame(figures / flip["frame"]).pixels_hwc
        assert (frame == frames[flip["validation_sample"]]).all()
    assert not out.exists()


def test_a_program_without_anything_to_quantise_is_refused(
    broken: Path,
    key_pair: tuple[Path, Path],
    tmp_path: Path,
    new_program: Callable[..., None],
) -> None:
    class Mean(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.float().amax(dim=(1, 2, 3)) * 0.01

    new_program(broken / "program.pt2", Mean(), PIXELS)
    arguments = (broken, "--out", tmp_path / "x.lsb", "--key", key_pair[0])
    for engine in ("onnxruntime", "openvino"):
        error = refused(run(*arguments, "--engines", engine, "--precision", "int8"))
        assert isinstance(error, GateError)
        assert "quantise" in str(error)


@given(images=arrays(np.uint8, st.tuples(st.integers(1, 900), st.just(1), st.just(1), st.just(1))))
def test_ranges_come_from_a_spread_of_the_samples(images: NDArray[np.uint8]) -> None:
    # Positions in place of pixels, so that what was chosen can be told.
    positions = np.arange(len(images), dtype=np.uint16).reshape(images.shape)
    chosen = choose_samples(positions).reshape(-1)  # type: ignore[arg-type]
    assert len(chosen) == min(len(images), MAX_SAMPLES)
    assert (np.diff(chosen.astype(np.int64)) >= 1).all()
    assert (chosen[0], chosen[-1]) == (0, len(images) - 1)


def test_every_error_is_ours() -> None:
    for error in (CandidateError, GateError, GraphError):
        assert issubclass(error, ExportError)
        assert issubclass(error, LinesideError)
