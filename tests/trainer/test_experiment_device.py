"""Device, precision, and what is said when memory does not hold a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lineside_trainer.data import Augmentation, Batches, ImageStore
from lineside_trainer.errors import ExperimentError, OutOfMemoryError
from lineside_trainer.experiment import FitSettings, RunSettings
from lineside_trainer.learning.device import choose_device, choose_precision
from lineside_trainer.learning.fit import FitResult, fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import FitData
from lineside_trainer.learning.progress import Progress


class Greedy(Learner):
    """Asks for more than there is, as torch reports it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros(len(targets))

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return [list(self.parameters())]


def run(learner: Learner, folder: Path, precision: str = "auto") -> FitResult:
    store = ImageStore(images_nhwc=torch.full((64, 48, 96, 1), 128, dtype=torch.uint8))
    batches = Batches(
        store, np.arange(64), np.ones(64), batch_size=64, seed=0, shuffle=True, drop_last=True
    )
    return fit(
        learner,
        FitData(training=batches, judging=batches, image_size_hw=(48, 96), digest="x"),
        settings=FitSettings(epochs=2, batch_size=64, lr=1e-3),
        augment=Augmentation(),
        run=RunSettings(device="cpu", precision=precision),  # type: ignore[arg-type]
        folder=folder,
        resume=False,
        progress=Progress("test", 2),
    )


def test_out_of_memory_is_advice_not_a_trace(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        run(Greedy(), tmp_path)
    message = str(caught.value)
    for advice in ("64 images of 48x96", "--batch-size to 32", "--precision bf16", "--image-size"):
        assert advice in message
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert caught.value.exit_code == 1


class Greedier(Greedy):
    """Asks a CPU for more than any machine has; torch itself refuses."""

    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return torch.empty(2**58)


def test_a_machine_without_the_memory_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=r"the machine's memory .* --batch-size to 32"):
        run(Greedier(), tmp_path)


class Noted(Greedy):
    """Writes down in which precision its products are made."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        values = self.layer(images_nhwc[:, :1, 0].float().mean(1))
        self.dtypes.append(values.dtype)
        return (values.float()[:, 0] - targets).square().mean()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_bf16_is_for_products_and_never_for_weights(
    precision: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    learner = Noted()
    result = run(learner, tmp_path, precision)
    assert learner.dtypes == [dtype, dtype]
    assert result.precision == precision
    assert {p.dtype for p in learner.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("auto", "cpu", "fp32"),
        ("auto", "cuda", "bf16"),
        ("fp32", "cuda", "fp32"),
        ("bf16", "cpu", "bf16"),
    ],
)
def test_bf16_is_for_gpus_unless_asked_for(asked: str, device: str, expected: str) -> None:
    settings = RunSettings(precision=asked)  # type: ignore[arg-type]
    assert choose_precision(settings, device) == expected


def test_a_gpu_that_is_asked_for_must_be_there() -> None:
    assert choose_device(RunSettings(device="cpu")) == "cpu"
    if torch.cuda.is_available():
        assert choose_device(RunSettings(device="cuda")) == "cuda"
        assert choose_device(RunSettings(device="auto")) == "cuda"
        return
    assert choose_device(RunSettings(device="auto")) == "cpu"
    with pytest.raises(ExperimentError, match=r"run\.device: 'cuda'.*--device cpu"):
        choose_device(RunSettings(device="cuda"))
