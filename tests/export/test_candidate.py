"""A candidate that does not hold together is refused, with the file and the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from lineside.candidate import SAMPLES, read_samples, write_samples
from lineside_export.candidate import read_candidate
from lineside_export.cli import export
from lineside_export.errors import CandidateError
from lineside_export.program import load_program

PIXELS = torch.zeros(5, 64, 64, 1, dtype=torch.uint8)


@pytest.fixture
def broken(small_candidate: Path, tmp_path: Path) -> Path:
    """A copy to be spoiled."""
    return Path(shutil.copytree(small_candidate, tmp_path / "candidate"))


def edit_contract(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    contract = json.loads((folder / "contract.json").read_text())
    change(contract)
    (folder / "contract.json").write_text(json.dumps(contract))


def edit_set(folder: Path, name: str, **changes: object) -> None:
    """Write the samples again with fields of one set exchanged."""
    archive = dict(np.load(folder / SAMPLES))
    archive |= {f"{name}_{field}": np.asarray(value) for field, value in changes.items()}
    np.savez(folder / SAMPLES, **archive)  # type: ignore[arg-type]


def shrink_set(folder: Path, name: str) -> None:
    sets = read_samples(folder / SAMPLES)
    del sets[name]
    write_samples(folder / SAMPLES, sets)


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder"),
    "a whole run": (lambda f: (f / "candidate").mkdir(), "is a whole run; name"),
    "no program": (lambda f: (f / "program.pt2").unlink(), "holds neither"),
    "two programs": (lambda f: (f / "model.onnx").write_bytes(b"x"), "holds both"),
    "no contract": (lambda f: (f / "contract.json").unlink(), "contract.json: No such file"),
    "contract is no JSON": (
        lambda f: (f / "contract.json").write_text("{"),
        "contract.json: Input data was truncated",
    ),
    "unknown key": (
        lambda f: edit_contract(f, lambda c: c["input"].update(mean=0.5)),
        "contract.json: Object contains unknown field `mean` - at `$.input`",
    ),
    "output twice": (
        lambda f: edit_contract(f, lambda c: c.update(outputs=c["outputs"] * 2)),
        "a name stands there twice",
    ),
    "head of another model": (
        lambda f: edit_contract(f, lambda c: c["head"].update(output="heat")),
        "head.output 'heat' is not among the outputs",
    ),
    "head of many values": (
        lambda f: edit_contract(f, lambda c: c["outputs"][0].update(shape=[3])),
        "this head takes one value an image",
    ),
    "no samples": (lambda f: (f / SAMPLES).unlink(), "samples.npz"),
    "cut samples": (
        lambda f: (f / SAMPLES).write_bytes((f / SAMPLES).read_bytes()[:5000]),
        "samples.npz: not a samples file",
    ),
    "no quantisation set": (lambda f: shrink_set(f, "quantisation"), "quantisation set is empty"),
    "no validation set": (lambda f: shrink_set(f, "validation"), "validation set is empty"),
    "no golden set": (lambda f: shrink_set(f, "golden"), "golden set is empty"),
    "part in two sets": (
        lambda f: edit_set(f, "golden", parts=["validation-0"] * 40),
        "part 'validation-0' is in both",
    ),
    "infinite target": (
        lambda f: edit_set(f, "validation", targets=[0.0] * 79 + [np.inf]),
        "validation: sample 79 has an infinite target",
    ),
    "no provenance": (lambda f: (f / "provenance.json").unlink(), "provenance.json"),
    "provenance of numbers": (
        lambda f: (f / "provenance.json").write_text('{"seed": 3}'),
        "provenance.json: Expected `str`, got `int`",
    ),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_faulty_folder_is_refused_by_name(broken: Path, fault: str) -> None:
    spoil, message = FOLDER_FAULTS[fault]
    spoil(broken)
    with pytest.raises(CandidateError) as refused:
        read_candidate(broken)
    assert message in str(refused.value)
    assert str(broken) in str(refused.value)
    assert refused.value.exit_code == 3


def test_frames_that_the_contract_does_not_accept_are_refused(broken: Path) -> None:
    edit_contract(broken, lambda c: c["frame"].update(size_hw=[32, 32]))
    with pytest.raises(CandidateError, match=r"samples\.npz: validation 0: 64x64 pixels"):
        read_candidate(broken).images_nhwc("validation")


class Plain(nn.Module):
    """Mean brightness; the arguments spoil it."""

    def __init__(self, *, dtype: torch.dtype = torch.float32, extra: int = 0) -> None:
        super().__init__()
        self.dtype = dtype
        self.extra = extra

    def forward(self, image: torch.Tensor) -> Any:
        value = image.to(self.dtype).mean(dim=(1, 2, 3))
        return (value,) * (1 + self.extra) if self.extra else value


class Renamed(nn.Module):
    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return picture.float().mean(dim=(1, 2, 3))


class Named(nn.Module):
    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"score": image.float().mean(dim=(1, 2, 3))}


class Wide(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.float().mean(dim=(1, 2))


def write_program(file: Path, module: nn.Module, example: torch.Tensor, *, dynamic: bool) -> None:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), file)


PROGRAM_FAULTS: dict[str, tuple[nn.Module, torch.Tensor, bool, str]] = {
    "another input": (Renamed(), PIXELS, True, "takes the inputs (picture)"),
    "float input": (Plain(), PIXELS.float(), True, "input 'image' is float32"),
    "channels first": (
        Plain(), PIXELS.reshape(5, 1, 64, 64), True, "is uint8 (batch, 1, 64, 64), the contract",
    ),
    "one batch only": (Plain(), PIXELS, False, "input 'image' is uint8 (5, 64, 64, 1)"),
    "two outputs": (Plain(extra=1), PIXELS, True, "gives the outputs (2)"),
    "another name": (Named(), PIXELS, True, "gives the outputs (score)"),
    "double output": (Plain(dtype=torch.float64), PIXELS, True, "output 'value' is float64"),
    "wide output": (Wide(), PIXELS, True, "output 'value' is float32 (batch, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PROGRAM_FAULTS)
def test_a_program_that_breaks_its_contract_is_refused(broken: Path, fault: str) -> None:
    module, example, dynamic, message = PROGRAM_FAULTS[fault]
    write_program(broken / "program.pt2", module, example, dynamic=dynamic)
    read = read_candidate(broken)
    with pytest.raises(CandidateError) as refused:
        load_program(read.program_file, read.contract)
    assert message in str(refused.value)
    assert str(broken / "program.pt2") in str(refused.value)


@pytest.mark.parametrize("size_bytes", [0, 100, 20_000])
def test_a_damaged_program_is_refused(broken: Path, size_bytes: int) -> None:
    file = broken / "program.pt2"
    file.write_bytes(file.read_bytes()[:size_bytes])
    read = read_candidate(broken)
    with pytest.raises(CandidateError, match=r"program\.pt2: not a torch\.export program"):
        load_program(read.program_file, read.contract)


def test_a_program_that_gives_nan_is_refused(
    broken: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    class Divides(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            # Not a number where an image is nowhere darker than 20: some of the joints.
            dark = image.float().amin(dim=(1, 2, 3))
            return torch.sqrt(20.0 - dark) + image.float().mean(dim=(1, 2, 3))

    write_program(broken / "program.pt2", Divides(), PIXELS, dynamic=True)
    out = tmp_path / "joint.lsb"
    arguments = [str(broken), "--out", str(out), "--key", str(key_pair[0]), "--precision", "fp32"]
    refused = CliRunner().invoke(export, arguments).exception
    assert isinstance(refused, CandidateError), refused
    assert "output 'value' is not a finite number for validation sample" in str(refused)
    assert not out.exists()


def test_a_dictionary_of_outputs_is_taken_by_name(broken: Path) -> None:
    edit_contract(
        broken,
        lambda c: (c.update(outputs=[{"name": "score"}]), c["head"].update(output="score")),
    )
    write_program(broken / "program.pt2", Named(), PIXELS, dynamic=True)
    read = read_candidate(broken)
    program = load_program(read.program_file, read.contract)
    images = read.images_nhwc("validation")[:3]
    # 16-image batches inside, filled up by repetition: the count must come back as given.
    np.testing.assert_allclose(program.infer(images)["score"], images.mean((1, 2, 3)), rtol=1e-6)
