"""From good images to a memory, and what each size of it is worth."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lineside.candidate import MEMORY, PROGRAM
from lineside.contract import AnomalyHead, Contract, MemorySpec, OutputSpec
from lineside.memory import read_memory
from lineside.metrics import auroc
from lineside_trainer.anomaly.good_patches import build_memory
from lineside_trainer.anomaly.memory_sizes import study_sizes
from lineside_trainer.candidate import write_candidate
from lineside_trainer.errors import DataError
from lineside_trainer.experiment import (
    AnomalySettings,
    DataSettings,
    Experiment,
    ModelSettings,
    RunSettings,
)
from lineside_trainer.models import build_backbone
from lineside_trainer.models.detector import MAP, SCORE
from lineside_trainer.models.patch_memory import SAME_BELOW, MemoryDetector
from lineside_trainer.prepared import Prepared, prepare_data

RUN = RunSettings(device="cpu")
SETTINGS = AnomalySettings(memory_patches=200, memory_layer=0.25)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """60 stripes, each of its own phase; every fourth has a scratch across them."""
    folder = tmp_path_factory.mktemp("stripes")
    generator = np.random.default_rng(0)
    lines = ["file,class"]
    for row in range(60):
        phase, bad = generator.uniform(0, 6), row % 4 == 0
        wave = 120 + 60 * np.sin(np.arange(32) / 3 + phase)
        pixels = np.tile(wave, (32, 1)) + generator.normal(0, 3, (32, 32))
        if bad:
            pixels[generator.integers(4, 26) :][:3, 8:28] = 20
        assert cv2.imwrite(str(folder / f"{row:02}.png"), pixels.clip(0, 255).astype(np.uint8))
        lines.append(f"{row:02}.png,{'bad' if bad else 'good'}")
    (folder / "labels.csv").write_text("\n".join(lines))
    data = DataSettings(folder=str(folder), image_size_hw=(32, 32))
    experiment = Experiment(data=data, model=ModelSettings(patch_px=4))
    return prepare_data(experiment, target=None, folder=folder)


def make_detector(prepared: Prepared, told: AnomalySettings = SETTINGS) -> MemoryDetector:
    torch.manual_seed(0)
    backbone = build_backbone(ModelSettings(arch="vit_tiny", patch_px=4), prepared.input)
    return MemoryDetector(
        prepared.normalise(), backbone, model_input=prepared.input, settings=told
    ).eval()


def is_bad(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    return np.array([int(Path(prepared.table.records[row].name).stem) % 4 == 0 for row in rows])


def good_and_other(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(60)
    good = rows[~is_bad(prepared, rows)]
    return good[:25], np.concatenate([good[25:], rows[is_bad(prepared, rows)]])


def test_it_tells_scratched_parts_from_good_ones_it_has_not_seen(prepared: Prepared) -> None:
    good, other = good_and_other(prepared)
    detector = make_detector(prepared)
    memory = build_memory(detector, prepared, good, SETTINGS, RUN)
    assert memory.patches.shape == (200, 192)
    assert memory.seen == 25 * 64
    assert memory.notes == ()
    with torch.no_grad():
        found = detector(prepared.store.rows(torch.from_numpy(other)))[SCORE].numpy()
    assert auroc(is_bad(prepared, other), found) > 0.95


def test_every_good_patch_lies_within_reach(prepared: Prepared) -> None:
    good, _ = good_and_other(prepared)
    detector = make_detector(prepared)
    memory = build_memory(detector, prepared, good, SETTINGS, RUN)
    with torch.no_grad():
        seen = detector(prepared.store.rows(torch.from_numpy(good)))[MAP]
    assert float(seen.max()) == pytest.approx(max(memory.reach, SAME_BELOW), rel=1e-3)


def test_seed_and_images_alone_decide(prepared: Prepared) -> None:
    good, _ = good_and_other(prepared)
    first, again, other = (
        build_memory(make_detector(prepared), prepared, good, SETTINGS, run).patches
        for run in (RUN, RUN, RunSettings(device="cpu", seed=1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_copies_of_an_image_do_not_fill_the_memory(prepared: Prepared) -> None:
    good, _ = good_and_other(prepared)
    memory = build_memory(make_detector(prepared), prepared, np.repeat(good[:2], 20), SETTINGS, RUN)
    assert len(memory.patches) == 2 * 64
    assert "holds 128 patches, not 200 (train.anomaly.memory_patches)" in memory.notes[0]


def test_what_does_not_fit_is_drawn_from_every_image(prepared: Prepared) -> None:
    good, _ = good_and_other(prepared)
    memory = build_memory(
        make_detector(prepared), prepared, good, SETTINGS, RUN, most_bytes=25 * 10 * 192 * 4
    )
    assert memory.seen == 250
    assert "10 of its 64 patches" in memory.notes[0]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_good_images_are_refused(prepared: Prepared, count: int) -> None:
    good, _ = good_and_other(prepared)
    with pytest.raises(DataError, match=rf"{count} training images.*two at least.*--good"):
        build_memory(make_detector(prepared), prepared, good[:count], SETTINGS, RUN)


def test_a_size_is_judged_as_a_memory_of_that_size_would(prepared: Prepared) -> None:
    good, other = good_and_other(prepared)
    detector = make_detector(prepared)
    memory = build_memory(detector, prepared, good, SETTINGS, RUN)
    bad = is_bad(prepared, other)
    found = study_sizes(detector, memory.patches, prepared, other, bad, sizes=(10, 50, 5000))
    assert [size.patches for size in found] == [10, 50, 200]
    images = prepared.store.rows(torch.from_numpy(other))
    for size in found:
        with torch.no_grad():
            scores = detector(images, memory.patches[: size.patches])[SCORE].numpy()
        assert np.abs(size.scores - scores).max() < 1e-4
        assert size.auroc == pytest.approx(float(auroc(bad, size.scores)))
        assert size.size_bytes == size.patches * 192 * 4
        assert size.latency_ms > 0.0
    assert all(a.scores.sum() > b.scores.sum() for a, b in itertools.pairwise(found))


def test_a_candidate_holds_the_memory_beside_its_program(
    prepared: Prepared, tmp_path: Path
) -> None:
    good, other = good_and_other(prepared)
    detector = make_detector(prepared)
    memory = build_memory(detector, prepared, good, SETTINGS, RUN)
    contract = Contract(
        product="stripes",
        frame=prepared.table.frame,
        input=prepared.input,
        outputs=(OutputSpec(name=SCORE), OutputSpec(name=MAP, shape=detector.map_hw)),
        memory=MemorySpec(width=192),
        head=AnomalyHead(output=SCORE, map=MAP),
    )
    check = write_candidate(tmp_path / "candidate", detector, contract, prepared, {})
    assert check.output in (SCORE, MAP)
    assert check.max_abs_difference <= check.tolerance_abs
    assert contract.memory is not None
    rows = read_memory(tmp_path / "candidate" / MEMORY, contract.memory)
    assert np.array_equal(rows, memory.patches.numpy())
    program = torch.export.load(tmp_path / "candidate" / PROGRAM).module()
    images = prepared.store.rows(torch.from_numpy(other[:3]))
    with torch.no_grad():
        given, expected = program(images, torch.from_numpy(rows)), detector(images)
    assert list(given) == [SCORE, MAP]
    assert torch.allclose(given[SCORE], expected[SCORE], atol=1e-5)
