"""The demo as `make demo` runs it, on few images, few epochs and a slim network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "examples" / "demo.py"
BRIEF = """
[model]
heads = 1
mlp_share = 0.25
[pretrain.fit]
epochs = 1
[train.fit]
epochs = 2
batch_size = 16
lr = 3e-4
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(DEMO), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=280)


def test_images_go_in_and_the_plc_hears_a_verdict_for_each(tmp_path: Path) -> None:
    joints, out, brief = tmp_path / "joints", tmp_path / "out", tmp_path / "brief.toml"
    brief.write_text(BRIEF, encoding="utf-8")
    lineside = Path(sys.executable).with_name("lineside")
    made = [lineside, "dataset", "joints", joints, "--parts", "40", "--seed", "3"]
    subprocess.run(made, check=True, capture_output=True)
    done = run(
        *("--data", joints, "--target", "delta_b_max", "--group", "part", "--limit", 0.2),
        *("--config", brief, "--out", out),
    )
    result = json.loads((out / "joint" / "result.json").read_text(encoding="utf-8"))
    # So few epochs may teach it nothing; then the demo must say so by its exit code.
    assert done.returncode == (0 if result["better_than_baseline"] else 1), done.stderr
    assert ("nothing was learned" in done.stdout) is (done.returncode == 1)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    test_images = summary["counts"]["test"]
    assert test_images == 40
    # One picture was cut off on its way to the station: judged, but never OK.
    assert summary["evaluations"]["NOT_DECIDABLE"] >= 1
    assert sum(summary["evaluations"].values()) == test_images + 1
    heard = (out / "line" / "plc.txt").read_text(encoding="utf-8")
    assert heard.count("demo/line1/aoi1") >= test_images + 1
    assert f"heard all {test_images + 1} verdicts" in done.stdout
    assert (out / "joint" / "report.html").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    done = run("--out", tmp_path)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep me"


def test_columns_without_a_folder_are_asked_back() -> None:
    done = run("--target", "delta_b_max")
    assert done.returncode == 2
    assert "--data" in done.stderr
