"""The candidate: any batch, the same numbers, and never a part in two sets."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lineside.candidate import PROGRAM, PROVENANCE, SAMPLES, read_samples, write_samples
from lineside.contract import InputSpec
from lineside.preprocess import prepare
from lineside_trainer.candidate import (
    assurance_set,
    compare,
    export_program,
    sample_sets,
    write_candidate,
)
from lineside_trainer.errors import TrainerError
from lineside_trainer.experiment import (
    DataSettings,
    Experiment,
    FitSettings,
    ModelSettings,
    PretrainSettings,
    TrainSettings,
)
from lineside_trainer.prepared import Prepared, prepare_data
from lineside_trainer.pretraining import plan_lesson
from lineside_trainer.tasks import Task, build_task
from lineside_trainer.tuning import make_contract

SIZE_HW = (16, 24)


def make_prepared(
    folder: Path, *, groups: int, assurance_share: float = 0.0
) -> tuple[Experiment, Prepared]:
    generator = np.random.default_rng(0)
    lines = ["file,part,y"]
    (folder / "images").mkdir()
    for row in range(60):
        pixels = generator.integers(0, 4096, (20, 30), dtype=np.uint16)
        assert cv2.imwrite(str(folder / "images" / f"{row}.png"), pixels)
        lines.append(f"{row}.png,part{row % groups},{row / 10}")
    (folder / "images" / "labels.csv").write_text("\n".join(lines))
    data = DataSettings(
        folder=str(folder / "images"),
        group="part",
        image_size_hw=SIZE_HW,
        assurance_share=assurance_share,
    )
    experiment = Experiment(
        data=data, model=ModelSettings(patch_px=8), train=TrainSettings(target="y")
    )
    return experiment, prepare_data(experiment, target="y", folder=folder)


def make_task(experiment: Experiment, prepared: Prepared) -> Task:
    torch.manual_seed(0)
    targets = prepared.table.targets[prepared.labelled("training")]
    return build_task(experiment, prepared.input, prepared.normalise(), targets)


def test_it_computes_the_same_from_raw_frames_at_any_batch(tmp_path: Path) -> None:
    experiment, prepared = make_prepared(tmp_path, groups=30)
    task = make_task(experiment, prepared)
    contract = make_contract(experiment, prepared, task)
    folder = tmp_path / "candidate"
    check = write_candidate(folder, task.network, contract, prepared, {"seed": "0"})
    assert check.max_abs_difference <= check.tolerance_abs
    program = torch.export.load(folder / PROGRAM).module()
    samples = read_samples(folder / SAMPLES)["validation"]
    assert samples.frames_hwc[0].dtype == np.uint16
    assert contract.frame.bit_depth == 16
    ready = np.stack([prepare(f, contract.frame, contract.input) for f in samples.frames_hwc])
    with torch.no_grad():
        for count in (1, 2, 3, len(ready)):
            values = program(torch.from_numpy(ready[:count]))
            assert values.shape == (count,)
            assert values.dtype == torch.float32
            expected = task.network(torch.from_numpy(ready[:count]))
            assert torch.allclose(values, expected, atol=check.tolerance_abs)


@pytest.mark.parametrize("groups", [30, 5])
def test_no_part_is_in_two_sets_however_few_there_are(groups: int, tmp_path: Path) -> None:
    _, prepared = make_prepared(tmp_path, groups=groups)
    sets = sample_sets(prepared)
    parts = [set(samples.parts) for samples in sets.values()]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert {name: len(s) for name, s in sets.items()} == {
        name: len(prepared.split.indices[name]) for name in sets
    }


@pytest.mark.parametrize("groups", [30, 6])
def test_assurance_samples_keep_their_parts_and_share_none(groups: int, tmp_path: Path) -> None:
    """With six parts the other sets fall back to images; the guarantee still counts parts."""
    _, prepared = make_prepared(tmp_path, groups=groups, assurance_share=0.35)
    sets = sample_sets(prepared)
    rows = prepared.split.indices["assurance"]
    table, found = prepared.table, sets["assurance"]
    assert len(set(found.parts)) == groups // 3
    kept = [(table.parts[row], table.targets[row], table.pixels(row).tobytes()) for row in rows]
    pixels = [frame.tobytes() for frame in found.frames_hwc]
    assert sorted(zip(found.parts, found.targets, pixels, strict=True)) == sorted(kept)
    elsewhere = [prepared.split.indices[n] for n in prepared.split.indices if n != "assurance"]
    assert not set(sets["assurance"].parts) & set(prepared.table.parts[np.concatenate(elsewhere)])
    write_samples(tmp_path / "samples.npz", sets)
    assert set(read_samples(tmp_path / "samples.npz")) == set(sets)


def test_where_not_all_assurance_parts_fit_whole_ones_do_and_it_is_told(tmp_path: Path) -> None:
    experiment, prepared = make_prepared(tmp_path, groups=20, assurance_share=0.35)
    rows = prepared.split.indices["assurance"]
    each = prepared.table.pixels(int(rows[0])).nbytes
    found = assurance_set(prepared.table, rows, most_bytes=each * 8)  # 3 images a part
    parts, counts = np.unique(found.parts, return_counts=True)
    assert counts.tolist() == [3, 3]
    assert parts.tolist() == np.unique(prepared.table.parts[rows])[:2].tolist()
    assert len(assurance_set(prepared.table, rows, most_bytes=1)) == 3
    task = make_task(experiment, prepared)
    contract = make_contract(experiment, prepared, task)
    write_candidate(tmp_path / "candidate", task.network, contract, prepared, {"seed": "0"})
    provenance = json.loads((tmp_path / "candidate" / PROVENANCE).read_text())
    assert provenance == {"seed": "0", "assurance_parts": "7 of 7"}


def test_without_a_share_there_are_no_assurance_samples(tmp_path: Path) -> None:
    _, prepared = make_prepared(tmp_path, groups=30)
    assert "assurance" not in sample_sets(prepared)


def test_pre_training_sees_no_assurance_image_even_where_it_sees_all_others(
    tmp_path: Path,
) -> None:
    experiment, prepared = make_prepared(tmp_path, groups=30, assurance_share=0.2)
    rows = prepared.split.indices["assurance"]
    for transductive in (False, True):
        told = msgspec.structs.replace(
            experiment,
            pretrain=PretrainSettings(
                transductive=transductive, fit=FitSettings(epochs=1, batch_size=8, lr=1e-3)
            ),
        )
        lesson = plan_lesson(told, prepared)
        assert len(rows)
        assert not set(rows) & {*lesson.training, *lesson.judging}
        assert (len(lesson.training) == 60 - len(rows)) == transductive


class _Moody(nn.Module):
    """Says something else outside the traced graph."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        mean = image.float().mean((1, 2, 3)) * self.weight
        return mean if torch.compiler.is_exporting() else mean * 1.01


def test_a_program_that_differs_is_not_offered() -> None:
    network = _Moody().eval()
    program = export_program(network, InputSpec(size_hw=(8, 8), channels=1))
    images = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)
    with pytest.raises(TrainerError, match="differs from the network"):
        compare(program, network, images)


def test_a_program_that_gives_no_numbers_is_not_offered() -> None:
    network = _Moody().eval()
    with torch.no_grad():
        network.weight.fill_(torch.nan)
    program = export_program(network, InputSpec(size_hw=(8, 8), channels=1))
    with pytest.raises(TrainerError, match="differs from the network"):
        compare(program, network, torch.zeros(5, 8, 8, 1, dtype=torch.uint8))
