"""From the line back to the trainer: what a station kept is learnt from, as it was collected."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from lineside.cli.main import lineside
from lineside.frame import Frame
from lineside.kept import KeepSettings, disposition_note
from lineside.mqtt.commands import DispositionCommand
from lineside.outbox import Draft, Outbox, OutboxSettings
from lineside.outbox.entry import JournalEntry, encode_entry
from lineside.sources import Capture
from lineside.station.keeping import FrameKeeper
from lineside.verdict import Evaluation, Reason, Verdict

PARTS, VIEWS, SILENT = 36, 2, 6
TOML = '[data]\nimage_size_hw = [32, 32]\n[model]\narch = "test_resnet"\n[train.fit]\nema = 0.0\n'
LEVELS = {"": 60, "crack": 150}
BRIEF = ("--device", "cpu", "--epochs", "2", "--batch-size", "8")


def succeed(*arguments: str | Path) -> str:
    result = CliRunner().invoke(lineside, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def defect_of(part: int) -> str:
    return "crack" if part % 2 else ""


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of each part; a human spoke of all parts but the last few."""
    folder = tmp_path_factory.mktemp("line")
    generator = np.random.default_rng(0)
    outbox = Outbox(OutboxSettings(path=folder / "outbox.sqlite"))
    keeper = FrameKeeper(KeepSettings(path=folder / "kept", keep_free_mib=0))
    keeper.start()
    for turn, (part, _) in enumerate(np.ndindex(PARTS, VIEWS)):
        level = LEVELS[defect_of(part)]
        pixels = np.clip(generator.normal(level, 10, (24, 24, 3)), 0, 255).astype(np.uint8)
        keep(keeper, outbox, turn, f"joint {part}", pixels)
        while keeper.written + keeper.lost <= turn:  # four wait at most
            threading.Event().wait(0.002)
    for part in range(PARTS - SILENT):
        command = DispositionCommand(
            part=f"joint {part}",
            evaluation=2 if defect_of(part) else 1,
            defect=defect_of(part),
        )
        assert outbox.note(disposition_note(command, heard_unix_ns=10**18))
    assert outbox.flush(10)
    keeper.stop(10)
    succeed(
        *("collect", "--outbox", folder / "outbox.sqlite", "--kept", folder / "kept"),
        *("--out", folder / "collected"),
    )
    outbox.close()
    (folder / "experiment.toml").write_text(TOML)
    return folder


def keep(keeper: FrameKeeper, outbox: Outbox, number: int, part: str, pixels: np.ndarray) -> None:
    verdict = Verdict(evaluation=Evaluation.NOT_DECIDABLE, reason=Reason.BETWEEN_LIMITS, score=0.5)
    entry = JournalEntry(turn=f"{number:016x}", part=part, evaluation=3, taken_unix_ns=number)
    draft = Draft(encode=lambda _: b"{}", entry=encode_entry(entry))
    assert outbox.put(draft, stopping=threading.Event())
    frame = Frame(pixels_hwc=pixels)
    capture = Capture(part_id=part, taken_unix_ns=number, taken_ns=0, read_us=0.0, frame=frame)
    keeper.offer(capture, verdict, turn=entry.turn)


def test_what_humans_said_is_learnt_and_no_part_is_split(collected: Path) -> None:
    run = collected / "run"
    said = succeed(
        *("train", "--data", collected / "collected", "--task", "classification"),
        *("--target", "disposition", "--group", "part", "--config", collected / "experiment.toml"),
        *("--out", run, *BRIEF, "--json"),
    )
    result = json.loads(said)
    contract = json.loads((run / "candidate" / "contract.json").read_text())
    assert (contract["head"]["classes"], contract["head"]["good"]) == (["NOT_OK", "OK"], ["OK"])
    assert contract["frame"]["channels"] == 3
    # Those of which nobody spoke serve pre-training, not the task.
    assert result["unlabelled"] == len(result["run"]["rejected"]) == SILENT * VIEWS
    assert all(why.startswith("unlabelled") for why in result["run"]["rejected"].values())
    with (run / "predictions.csv").open(newline="") as file:
        sets: dict[str, set[str]] = {}
        for row in csv.DictReader(file):
            sets.setdefault(row["part"], set()).add(row["set"])
            assert row["part"].startswith("joint ")
    assert {len(found) for found in sets.values()} == {1}


def test_all_of_it_serves_pre_training(collected: Path) -> None:
    run = collected / "pre"
    succeed(
        *("pretrain", "--data", collected / "collected", "--group", "part"),
        *("--arch", "vit_tiny", "--image-size", "16", "--out", run, *BRIEF),
    )
    files = json.loads((run / "split.json").read_text())["files"]
    named = {name for names in files.values() for name in names}
    assert len(named) == PARTS * VIEWS
    assert cv2.imread(str(collected / "collected" / min(named))) is not None


def test_defects_by_name_are_classes_too(collected: Path) -> None:
    run = collected / "defects"
    succeed(
        *("train", "--data", collected / "collected", "--task", "classification"),
        *("--target", "defect", "--group", "part", "--config", collected / "experiment.toml"),
        *("--out", run, *BRIEF),
    )
    head = json.loads((run / "candidate" / "contract.json").read_text())["head"]
    assert (head["classes"], head["good"]) == (["crack", "ok"], ["ok"])
