"""Anomaly models on the whole road: good images in, fewer bits for both engines, verdicts that say
where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import succeed
from scratched_plates import scratched, striped_plate, write_scratched_plates

import lineside as sdk
from lineside.bundle import open_bundle
from lineside.candidate import MEMORY
from lineside.drift import DRIFT_PART
from lineside.golden import GOLDEN_PART
from lineside.memory import MEMORY_PART
from lineside.verdict import Evaluation

SIZE_HW = (32, 32)
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plates")
    succeed("keys", "new", "factory", "--out", folder)
    write_scratched_plates(folder / "images", good=150, bad=40, size_hw=SIZE_HW)
    return folder


@pytest.fixture(scope="module")
def gradcon(plates: Path) -> Path:
    """The paper's own score, its gradients in the graph."""
    config = plates / "vae.toml"
    config.write_text('[train.anomaly]\nreduction = "sum"\n[train.fit]\nlr = 2e-3\n')
    words = ("--data", plates / "images", "--task", "anomaly", "--target", "class")
    words = (*words, "--config", config, "--image-size", 32, "--epochs", 12, "--batch-size", 16)
    succeed("train", *words, "--arch", "beta_vae", "--out", plates / "vae", "--device", "cpu")
    return seal(plates, "vae", "fp32")


@pytest.fixture(scope="module")
def memory(plates: Path) -> Path:
    """On a network that was pre-trained on the same images."""
    data = ("--data", plates / "images", "--image-size", 32, "--device", "cpu")
    words = ("--method", "simsiam", "--arch", "test_resnet", "--epochs", 2, "--batch-size", 16)
    succeed("pretrain", *data, *words, "--out", plates / "pre")
    words = ("--task", "anomaly", "--target", "class", "--init", plates / "pre")
    succeed("train", *data, *words, "--memory-patches", 300, "--out", plates / "memory")
    return seal(plates, "memory", "fp16")


def seal(plates: Path, run: str, precision: str) -> Path:
    bundle = plates / f"{run}.lsb"
    succeed(
        *("export", plates / run / "candidate", "--out", bundle, "--key", plates / "factory.key"),
        *("--precision", precision, "--max-flips", 3, "--max-drop", 0.05),
    )
    return bundle


def frames(count: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs: a plate that no run has seen, and its twin with a scratch."""
    generator = np.random.default_rng(7)
    plain = [striped_plate(generator, SIZE_HW) for _ in range(count)]
    return [(plate, scratched(plate, generator)) for plate in plain]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", ["gradcon", "memory"])
def test_a_scratch_is_not_ok_and_its_place_is_named(
    family: str, engine: str, plates: Path, request: pytest.FixtureRequest
) -> None:
    bundle: Path = request.getfixturevalue(family)
    with sdk.load(bundle, trust=plates / "factory.pub", engine=engine, threads=1) as inspector:
        pairs = [(inspector.inspect(good), inspector.inspect(bad)) for good, bad in frames()]
    assert all(good.score < bad.score for good, bad in pairs)
    assert sum(good.evaluation is Evaluation.OK for good, _ in pairs) >= 10
    hurt = [bad for _, bad in pairs if bad.evaluation is Evaluation.NOT_OK]
    assert len(hurt) >= 10
    for verdict in hurt:
        first = verdict.findings[0]
        assert first.name == "anomaly" and first.region is not None
        assert 0 <= first.region.x0_px < first.region.x1_px <= SIZE_HW[1]


def test_the_same_frame_always_gets_the_same_score(gradcon: Path, plates: Path) -> None:
    """A VAE draws its codes in training; a device takes their mean."""
    plate, _ = frames(1)[0]
    trust = plates / "factory.pub"
    with sdk.load(gradcon, trust=trust, engine="onnxruntime", threads=1) as inspector:
        assert len({inspector.inspect(plate).score for _ in range(5)}) == 1


def test_another_score_needs_no_training(gradcon: Path, plates: Path) -> None:
    said = json.loads(
        succeed(
            *("rescore", plates / "vae", "--score", "recon", "--out", plates / "recon", "--json")
        ).stdout
    )
    before = json.loads((plates / "vae" / "result.json").read_text())
    assert (before["anomaly"]["exported"], said["anomaly"]["exported"]) == ("gradcon", "recon")
    ours, theirs = (found["anomaly"]["scores"]["recon"]["auroc"] for found in (said, before))
    assert ours == theirs
    assert said["run"]["epochs"] == before["run"]["epochs"] == 12
    bundle = seal(plates, "recon", "fp32")
    assert bundle.stat().st_size < gradcon.stat().st_size


def test_a_smaller_memory_is_exchanged_without_touching_the_model(
    memory: Path, plates: Path
) -> None:
    candidate = Path(shutil.copytree(plates / "memory" / "candidate", plates / "small/candidate"))
    patches = np.load(candidate / MEMORY, allow_pickle=False)
    np.save(candidate / MEMORY, patches[:20], allow_pickle=False)
    small = seal(plates, "small", "fp16")
    whole, cut = (sealed_parts(bundle, plates) for bundle in (memory, small))
    assert whole.keys() == cut.keys()
    # The golden samples' proven scores, and the scores drift is held against, are the memory's.
    assert {name for name in whole if whole[name] != cut[name]} == {
        MEMORY_PART,
        GOLDEN_PART,
        DRIFT_PART,
    }
    with sdk.load(small, trust=plates / "factory.pub", engine="openvino", threads=1) as inspector:
        assert inspector.inspect(frames(1)[0][1]).score is not None


def sealed_parts(bundle: Path, plates: Path) -> dict[str, str]:
    """SHA-256 by name."""
    with open_bundle(bundle, trust=plates / "factory.pub") as opened:
        return {part.name: part.sha256 for part in opened.manifest.parts}


def test_what_is_sealed_is_told(plates: Path, memory: Path) -> None:
    told = succeed("verify", memory, "--trust", plates / "factory.pub", "--explain").stdout
    assert "anomaly" in told and "good" in told
    assert "memory" in told
