"""What a run starts from: a run, a chain of runs, a file, and never two of them at once."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from lineside_trainer.ancestry.initial import SeenImages
from lineside_trainer.cli.pretrain import pretrain
from lineside_trainer.cli.train import train
from lineside_trainer.errors import ExperimentError
from lineside_trainer.runs.runfolder import read_document

BRIEF = ("--arch", "vit_tiny", "--epochs", "1", "--batch-size", "8", "--device", "cpu")


def draw(folder: Path, seed: int, channels: int) -> Path:
    """Forty images of 16x16 px; `level` is how bright they are."""
    folder.mkdir()
    random, rows = np.random.default_rng(seed), ["file,level"]
    for number in range(40):
        level = random.uniform(40, 200)
        noise = 10 * random.standard_normal((16, 16, channels))
        pixels = np.clip(level + noise, 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number:02d}.png"), pixels)
        rows.append(f"{number:02d}.png,{level:.1f}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def pretrained(*arguments: object) -> dict[str, object]:
    return succeed(pretrain, *arguments)


def succeed(command: object, *arguments: object) -> dict[str, object]:
    words = [str(argument) for argument in (*arguments, "--json")]
    result = CliRunner().invoke(command, words, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.stderr
    document: dict[str, object] = json.loads(result.stdout)
    return document


def refuse(command: object, *arguments: object) -> str:
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(command, words)  # type: ignore[arg-type]
    assert isinstance(result.exception, ExperimentError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two factories, one gray, one in colour; the first was pre-trained on, then the second."""
    folder = tmp_path_factory.mktemp("sites")
    draw(folder / "a", 1, channels=1)
    draw(folder / "b", 2, channels=3)
    pretrained("--data", folder / "a", "--image-size", 16, "--out", folder / "pre_a", *BRIEF)
    more = ("--init", folder / "pre_a", "--out", folder / "pre_b", *BRIEF[2:])
    pretrained("--data", folder / "b", *more)
    return folder


def test_pre_training_goes_on_on_images_of_another_factory(sites: Path) -> None:
    result = json.loads((sites / "pre_b" / "result.json").read_text())
    digest = sha256((sites / "pre_a" / "backbone.pt").read_bytes()).hexdigest()
    assert (result["init"], result["weights"]) == (str(sites / "pre_a"), "")
    assert result["weights_sha256"] == digest
    assert any("1 input channel shared out to 3" in note for note in result["run"]["notes"])


def test_a_chain_passes_on_what_each_of_its_runs_saw(sites: Path, tmp_path: Path) -> None:
    seen = [read_document(sites / name / "seen.json", SeenImages) for name in ("pre_a", "pre_b")]
    assert seen[0].files.items() < seen[1].files.items()
    told = refuse(
        *(train, "--data", sites / "a", "--target", "level", "--init", sites / "pre_b"),
        *("--split-seed", 5, "--out", tmp_path / "out", *BRIEF[2:]),
    )
    assert "was pre-trained on" in told


def test_tuning_on_another_factorys_images_says_what_it_started_from(
    sites: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = succeed(
        *(train, "--data", sites / "b", "--target", "level", "--init", sites / "pre_a"),
        *("--out", out, *BRIEF[2:]),
    )
    provenance = json.loads((out / "candidate" / "provenance.json").read_text())
    assert provenance["init"] == "pre_a"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", provenance["commit"])
    assert provenance["weights_sha256"] == result["weights_sha256"] != ""
    assert str(sites) not in json.dumps(provenance)


def test_a_file_is_noted_as_one_of_which_nothing_is_proved(sites: Path, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.pt"
    shutil.copy(sites / "pre_a" / "backbone.pt", file)
    result = succeed(
        *(train, "--data", sites / "a", "--target", "level", "--weights", file),
        *("--image-size", 16, "--out", tmp_path / "out", *BRIEF),
    )
    assert (result["init"], result["weights"]) == ("", str(file))
    assert result["weights_sha256"] == sha256(file.read_bytes()).hexdigest()
    run = result["run"]
    assert isinstance(run, dict)
    assert any("elsewhere.pt" in note and "not known" in note for note in run["notes"])


def test_a_file_beside_its_runs_list_of_images_is_held_to_it(sites: Path, tmp_path: Path) -> None:
    told = refuse(
        *(train, "--data", sites / "a", "--target", "level", "--split-seed", 5),
        *("--weights", sites / "pre_a" / "backbone.pt", "--image-size", 16),
        *("--out", tmp_path / "out", *BRIEF),
    )
    assert "was pre-trained on" in told


def test_two_beginnings_or_a_missing_one_are_refused_before_images_are_read(
    sites: Path, tmp_path: Path
) -> None:
    base = (train, "--data", tmp_path / "no images", "--target", "level", "--out", tmp_path / "out")
    both = ("--init", sites / "pre_a", "--weights", sites / "pre_a" / "backbone.pt")
    assert "a network starts from one" in refuse(*base, *both)
    told = refuse(*base, "--arch", "vit_small", "--weights", tmp_path / "none.safetensors")
    assert "https://huggingface.co/timm/vit_small_patch16_224" in told
    assert "a network starts from one" in refuse(*base, "--download", *both[2:])


def test_the_weights_are_those_of_the_file(sites: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pretrained(
        *("--data", sites / "a", "--weights", sites / "pre_a" / "backbone.pt", "--image-size", 16),
        *("--lr", 1e-12, "--out", out, *BRIEF),
    )
    before, after = (
        torch.load(folder / "backbone.pt", weights_only=True)["weights"]
        for folder in (sites / "pre_a", out)
    )
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
