"""Classes on the whole road: images in, int8 for both engines, verdicts that name the kind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import lineside as sdk
from lineside.cli.main import lineside
from lineside.verdict import Evaluation

LEVELS = {"free": 60, "crack": 120, "void": 180}
PARTS = {"free": 80, "crack": 66, "void": 54}
TOML = '[data]\nimage_size_hw = [32, 32]\n[model]\narch = "test_resnet"\n[train.fit]\nema = 0.0\n'


def succeed(*arguments: str | Path) -> str:
    result = CliRunner().invoke(lineside, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frames of each class, a run, a key pair and a bundle."""
    folder = tmp_path_factory.mktemp("classes")
    data, config = folder / "tiles", folder / "experiment.toml"
    data.mkdir()
    config.write_text(TOML)
    generator = np.random.default_rng(0)
    with (data / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "part", "defect"])
        for kind, count in PARTS.items():
            for part, view in np.ndindex(count, 2):
                pixels = np.clip(generator.normal(LEVELS[kind], 10, (16, 16)), 0, 255)
                name = f"{kind}_{part}_{view}.png"
                assert cv2.imwrite(str(data / name), pixels.astype(np.uint8))
                writer.writerow([name, f"{kind}_{part}", kind])
    succeed(
        *("train", "--data", data, "--task", "classification", "--target", "defect"),
        *("--group", "part"),
        *("--limit", "0.5", "--config", config, "--out", folder / "run", "--device", "cpu"),
        *("--epochs", "8", "--batch-size", "16", "--lr", "3e-3", "--assurance-share", "0.25"),
    )
    succeed("keys", "new", "factory", "--out", folder)
    said = succeed(
        *("export", folder / "run" / "candidate", "--out", folder / "tiles.lsb"),
        *("--key", folder / "factory.key", "--precision", "int8", "--max-drop", "0.05", "--json"),
    )
    (folder / "export.json").write_text(said)
    return folder


def test_int8_agrees_by_the_metric_of_classes(sealed: Path) -> None:
    said = json.loads((sealed / "export.json").read_text())
    assert set(said["metrics"]) == {
        "validation_average_precision_torch_fp32",
        *(
            f"validation_average_precision_{engine}_{precision}"
            for engine in ("onnxruntime", "openvino")
            for precision in ("fp32", "int8")
        ),
    }
    assert {found["output"] for found in said["agreements"]} == {"probability"}
    figures = json.loads((sealed / "tiles.lsb.report" / "parity.json").read_text())
    assert figures["reference"]["average_precision"] == pytest.approx(
        said["metrics"]["validation_average_precision_torch_fp32"]
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_verdict_names_the_kind_of_defect(sealed: Path, engine: str) -> None:
    with sdk.load(
        sealed / "tiles.lsb", trust=sealed / "factory.pub", engine=engine, threads=1
    ) as inspector:
        verdicts = {
            kind: inspector.inspect_file(sealed / "tiles" / f"{kind}_0_0.png") for kind in LEVELS
        }
        wrong = inspector.inspect(np.zeros((20, 20), np.uint8))  # of another size
    good = verdicts.pop("free")
    assert (good.evaluation, good.findings, good.unit) == (Evaluation.OK, (), "1")
    assert good.score is not None and 0.0 <= good.score <= 0.5
    for kind, verdict in verdicts.items():
        assert verdict.evaluation is Evaluation.NOT_OK
        assert verdict.score is not None and 0.5 < verdict.score <= 1.0
        (finding,) = verdict.findings
        assert finding.name == kind
        # One of two kinds of defect: at least half of what speaks for any.
        assert verdict.score / 2 <= finding.probability <= verdict.score + 1e-6
    assert (wrong.evaluation, wrong.findings) == (Evaluation.NOT_DECIDABLE, ())


def test_people_see_the_kind_too(sealed: Path) -> None:
    base = ("inspect", sealed / "tiles.lsb", "--trust", sealed / "factory.pub")
    base = (*base, "--engine", "onnxruntime", "--threads", "1")
    good, crack = (sealed / "tiles" / f"{kind}_1_0.png" for kind in ("free", "crack"))
    table = succeed(*base, good, crack)
    assert "finding" in table.splitlines()[0]
    assert "crack 0." in table or "crack 1.00" in table
    assert "finding" not in succeed(*base, good)
    rows = json.loads(succeed(*base, crack, "--json"))
    assert [found["name"] for found in rows[0]["findings"]] == ["crack"]


def test_a_run_without_classes_of_its_own_tells_which_are_good(sealed: Path) -> None:
    contract = json.loads((sealed / "run" / "candidate" / "contract.json").read_text())
    assert contract["head"] == {
        "kind": "classification",
        "output": "probability",
        "target": "defect",
        "classes": ["crack", "free", "void"],
        "good": ["free"],
    }


def test_a_limit_for_classes_is_chosen_and_proven_on_parts_that_nothing_saw(sealed: Path) -> None:
    out = sealed / "promised.lsb"
    said = json.loads(
        succeed(
            *("export", sealed / "run" / "candidate", "--out", out, "--json"),
            *("--key", sealed / "factory.key", "--rule", "best-f1", "--date", "2026-11-21"),
            *("--max-escape", "0.2", "--confidence", "0.9", "--engines", "onnxruntime"),
            *("--precision", "int8", "--max-drop", "0.05"),
        )
    )
    guarantee = said["guarantee"]
    files = json.loads((sealed / "run" / "split.json").read_text())["files"]["assurance"]
    parts = {name.rsplit("_", 1)[0] for name in files}
    bad = {part for part in parts if not part.startswith("free")}
    (counts,) = guarantee["assurance"]
    # Two images a part: a part counts once.
    assert (counts["bad"], counts["good"]) == (len(bad), len(parts) - len(bad))
    assert len(files) == 2 * len(parts)
    assert said["decision"]["part_images"] == "together"
    with sdk.load(out, trust=sealed / "factory.pub", threads=1) as inspector:
        told = {name: inspector.inspect_file(sealed / "tiles" / name).evaluation for name in files}
    judged = {part: {told[f"{part}_{view}.png"] for view in (0, 1)} for part in parts}
    passed = {part for part in parts if judged[part] == {Evaluation.OK}}
    assert counts["escaped"] == len(passed & bad) <= 0.2 * len(bad)
    explained = succeed(
        *("verify", out, "--trust", sealed / "factory.pub", "--explain", "--engine", "none")
    )
    assert "at most 20 % of bad parts are judged OK, with 90 % confidence" in explained
    assert "best F1 on the validation parts" in explained
