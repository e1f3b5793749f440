"""Write the candidate: program, contract, samples, provenance; proved before it is offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from lineside.candidate import (
    CONTRACT,
    MEMORY,
    NEEDED_SETS,
    PROGRAM,
    PROVENANCE,
    SAMPLES,
    SampleSet,
    write_samples,
)
from lineside.contract import Contract, InputSpec, encode_contract
from lineside.durable import make_folder, write_durably
from lineside.frame import Pixels
from lineside.memory import write_memory
from lineside_trainer.data import Table
from lineside_trainer.data.split import ASSURANCE
from lineside_trainer.durable import write_archive
from lineside_trainer.errors import TrainerError
from lineside_trainer.models import use_fused_attention, write_out_biased_attention
from lineside_trainer.models.detector import Detector
from lineside_trainer.prepared import IntArray, Prepared

MOST_FRAMES: Final = 1000
"""Of one set: enough to choose on, and a samples file that can still be copied about."""

MOST_ASSURANCE_BYTES: Final = 2 * 2**30
"""Of pixels. A promise of 1 % asks for hundreds of bad parts, and for thousands of parts where 5 %
are bad: 2 GiB are 500,000 images of 64x64, or 400 of 5 megapixels."""

TOLERANCE_STD: Final = 1e-4
"""Largest difference between program and network, in standard deviations of the output.

Both are fp32 torch on one machine; they differ in the attention kernel and the order of sums.
Measured over ViT-Ti at 64x64 and 32x48 px after training: 2e-6 at most. int8 drifts by 1e-2."""

_EXAMPLE_SIZES: Final = (7, 11, 13, 17, 19, 23, 29, 31)
_COMPARED_AT_ONCE: Final = 64


@dataclass(frozen=True, kw_only=True)
class CandidateCheck:
    """How the exported program compares with the network it was made from.

    Attributes:
        samples: compared validation images.
        max_abs_difference: in the target's unit.
        tolerance_abs: likewise.
        output: which of several outputs the two are of, the one nearest to its tolerance.
    """

    samples: int
    max_abs_difference: float
    tolerance_abs: float
    output: str = ""


def write_candidate(
    folder: Path,
    network: nn.Module,
    contract: Contract,
    prepared: Prepared,
    provenance: dict[str, str],
) -> CandidateCheck:
    """Export, compare, write.

    Args:
        folder: of the candidate; made where it is missing.
        network: (N, H, W, C) uint8 to the contract's output, or a `Detector`, whose memory goes
            into a file of its own.
        contract: what is promised.
        prepared: where samples come from.
        provenance: free keys.

    Raises:
        TrainerError: the program does not compute what the network does.
        StorageError: the disk is full, read-only or gone.
    """
    network.eval()
    make_folder(folder)
    memory = network.memory if isinstance(network, Detector) else None
    program = export_program(network, contract.input, memory)
    rows = torch.from_numpy(prepared.split.indices["validation"][:MOST_FRAMES])
    check = compare(program, network, prepared.store.rows(rows), memory)
    write_archive(folder / PROGRAM, lambda file: torch.export.save(program, file))
    write_durably(folder / CONTRACT, [encode_contract(contract)])
    _write_memory(folder / MEMORY, memory, contract)
    sets = sample_sets(prepared)
    write_samples(folder / SAMPLES, sets)
    told = {**provenance, **_assurance_told(prepared, sets)}
    text = msgspec.json.format(msgspec.json.encode(told), indent=2)
    write_durably(folder / PROVENANCE, [text, b"\n"])
    return check


def _write_memory(path: Path, memory: Tensor | None, contract: Contract) -> None:
    """Beside the program, so that one is exchanged without the other; none leaves no older one."""
    assert (memory is None) == (contract.memory is None), "the contract promises what there is"
    if memory is None or contract.memory is None:
        path.unlink(missing_ok=True)
        return
    write_memory(path, memory.float().cpu().numpy(), contract.memory)


def export_program(
    network: nn.Module, model_input: InputSpec, memory: Tensor | None = None
) -> torch.export.ExportedProgram:
    """`torch.export` with a dynamic batch; the input is named as the contract says.

    Args:
        network: in eval mode, on the CPU; its `forward` has one parameter, `image`, or a second,
            `memory`.
        model_input: its size.
        memory: (M, width) float32 where it takes one; M stays open, and its values stay outside.
    """
    use_fused_attention(network, fused=True)
    write_out_biased_attention(network)
    height, width = model_input.size_hw
    taken = _sizes(network) | {height, width, model_input.channels}
    taken |= set() if memory is None else {memory.shape[1]}
    # Equal to another size, the batch would be taken for it and frozen (found the hard way).
    batch, patches = [size for size in _EXAMPLE_SIZES if size not in taken][:2]
    examples = [torch.zeros((batch, height, width, model_input.channels), dtype=torch.uint8)]
    shapes = {model_input.name: {0: torch.export.Dim("batch")}}
    if memory is not None:
        examples.append(torch.zeros(patches, memory.shape[1]))
        shapes["memory"] = {0: torch.export.Dim("patches")}
    return torch.export.export(network, tuple(examples), dynamic_shapes=shapes)


@torch.no_grad()
def compare(
    program: torch.export.ExportedProgram,
    network: nn.Module,
    images_nhwc: Tensor,
    memory: Tensor | None = None,
) -> CandidateCheck:
    """Run both on the same images.

    Args:
        program: exported from `network`.
        network: in eval mode; gives a tensor, or several by name.
        images_nhwc: (N, H, W, C) uint8.
        memory: (M, width) float32 where both take one.

    Returns:
        Of several outputs the one that is nearest to its tolerance.

    Raises:
        TrainerError: they differ by more than `TOLERANCE_STD`, or give no numbers.
    """
    module = program.module()
    more = () if memory is None else (memory,)
    parts = torch.split(images_nhwc, _COMPARED_AT_ONCE)
    ours = [_by_name(network(part, *more)) for part in parts]
    theirs = [_by_name(module(part, *more)) for part in parts]
    if [list(given) for given in ours] != [list(given) for given in theirs]:
        raise TrainerError("the exported program gives other outputs than the network")
    checks = [
        _compare_output(
            torch.cat([given[name] for given in ours]).double(),
            torch.cat([given[name] for given in theirs]).double(),
            name,
        )
        for name in ours[0]
    ]
    return max(checks, key=lambda check: check.max_abs_difference / check.tolerance_abs)


def _by_name(given: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"": given} if isinstance(given, Tensor) else given


def _compare_output(ours: Tensor, theirs: Tensor, name: str) -> CandidateCheck:
    difference = float((ours - theirs).abs().max())
    # A network that says one value everywhere has no spread of its own: then its size counts.
    scale = max(float(ours.std(correction=0)), 1e-2 * float(ours.abs().max()), 1e-12)
    tolerance = TOLERANCE_STD * scale
    if not difference <= tolerance:
        which = f" in {name!r}" if name else ""
        raise TrainerError(
            f"the exported program differs from the network by {difference:g}{which} on "
            f"{len(ours)} validation images (tolerance {tolerance:g}); it is not offered"
        )
    return CandidateCheck(
        samples=len(ours), max_abs_difference=difference, tolerance_abs=tolerance, output=name
    )


def sample_sets(prepared: Prepared) -> dict[str, SampleSet]:
    """Frames as acquired of every set the exporter needs.

    Where a fold had too few parts to carve by part, its sets share parts; then each image counts
    as its own part, as the split's notes say, because a samples file refuses a shared one.
    Assurance samples share no part with any set, so theirs are the true ones: the guarantee counts
    them.
    """
    table = prepared.table
    rows = {name: _at_most(prepared.split.indices[name]) for name in NEEDED_SETS}
    homes = [set(table.parts[chosen].tolist()) for chosen in rows.values()]
    shared = sum(map(len, homes)) != len(set().union(*homes))
    ids = [record.name for record in table.records] if shared else table.parts.tolist()
    sets = {name: _sample_set(table, chosen, ids) for name, chosen in rows.items()}
    if len(prepared.split.indices[ASSURANCE]):
        sets[ASSURANCE] = assurance_set(table, prepared.split.indices[ASSURANCE])
    return sets


def _assurance_told(prepared: Prepared, sets: Mapping[str, SampleSet]) -> dict[str, str]:
    """How many assurance parts there are and went in; nothing where there is none."""
    if ASSURANCE not in sets:
        return {}
    there = np.unique(prepared.table.parts[prepared.split.indices[ASSURANCE]])
    return {"assurance_parts": f"{len(set(sets[ASSURANCE].parts))} of {len(there)}"}


def _sample_set(table: Table, rows: IntArray, ids: Sequence[str]) -> SampleSet:
    return SampleSet(
        frames_hwc=[table.pixels(int(row)) for row in rows],
        targets=table.targets[rows],
        parts=[ids[row] for row in rows],
    )


def assurance_set(
    table: Table, rows: IntArray, most_bytes: int = MOST_ASSURANCE_BYTES
) -> SampleSet:
    """As many whole parts as fit, in the order of their names: half a part would count as another.

    Args:
        table: of all images.
        rows: (M,) of the assurance samples, at least one.
        most_bytes: of pixels; the first part goes in all the same.
    """
    taken: list[int] = []
    frames: list[Pixels] = []
    size_bytes = 0
    for part in np.unique(table.parts[rows]):
        members = rows[table.parts[rows] == part].tolist()
        pixels = [table.pixels(row) for row in members]
        size_bytes += sum(frame.nbytes for frame in pixels)
        if size_bytes > most_bytes and frames:
            break
        taken += members
        frames += pixels
    return SampleSet(
        frames_hwc=frames,
        targets=table.targets[taken],
        parts=[str(part) for part in table.parts[taken]],
    )


def _at_most(rows: IntArray) -> IntArray:
    if len(rows) <= MOST_FRAMES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_FRAMES).round().astype(np.int64)]


def _sizes(network: nn.Module) -> set[int]:
    return {size for tensor in network.state_dict().values() for size in tensor.shape}
