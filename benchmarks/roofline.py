"""What brings int8 inference of a ViT-Ti nearer to what the processor can: each try by name.

    python benchmarks/roofline.py --work WORK    # writes benchmarks/results/roofline.json

Ways of a group take turns in one process, each as it would run on a device. Networks have random
weights, and go the exporter's own road into int8. A ratio below 1 is faster than the group's first.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results_folder import RESULTS
from roofline_networks import Kitchen, Shape
from roofline_ways import Open, Way, from_frame, onnx_runtime, openvino, pairs

from lineside_bench.record import circumstances, keep
from lineside_bench.turns import Micros, ratio, take_turns

NO_TOKEN = Shape(class_token=False)
SLIM = {"class_token": False, "heads": 3, "units": 384}
BUSY_SPIN = {"session.intra_op.allow_spinning": "1"}
PINNED = {"ENABLE_CPU_PINNING": True}


@dataclass(frozen=True, kw_only=True)
class Try:
    """One line of the table.

    Attributes:
        group: those that take turns; the first of a group is what the others are held against.
        name: in words.
        opened: how it is run.
    """

    group: str
    name: str
    opened: Open


def tries(group: str, **ways: Open) -> list[Try]:
    """One group."""
    return [Try(group=group, name=name, opened=opened) for name, opened in ways.items()]


FORM, NETWORK = "OpenVINO, form", "OpenVINO, network"
THREADS, SEVERAL, FRAMES = "OpenVINO, threads", "OpenVINO, several images", "OpenVINO, frame"
ONNX = "ONNX Runtime"

TRIES: list[Try] = [
    *tries(
        FORM,
        **{
            "int8": openvino(),
            "attention in int8 too": openvino(form="int8, attention too"),
            "zero points (asymmetric ranges)": openvino(form="int8, zero points"),
            "both, as it was": openvino(form="int8, zero points, attention too"),
            "bf16 in between": openvino(precision="bf16"),
            "fp32": openvino(form="fp32"),
            "bf16": openvino(form="fp32", precision="bf16"),
        },
    ),
    *tries(
        NETWORK,
        **{
            "ViT-Ti": openvino(),
            "GELU by tanh": openvino(shape=Shape(activation="gelu tanh")),
            "ReLU": openvino(shape=Shape(activation="relu")),
            "hard swish": openvino(shape=Shape(activation="hardswish")),
            "GELU in pieces": openvino(shape=Shape(activation="hardgelu")),
            "64 tokens": openvino(shape=NO_TOKEN),
            "64 tokens, ReLU": openvino(shape=Shape(class_token=False, activation="relu")),
            "64 tokens, ReLU, bf16 in between": openvino(
                shape=Shape(class_token=False, activation="relu"), precision="bf16"
            ),
            "patch 16 (17 tokens)": openvino(shape=Shape(patch_px=16)),
            "60 px, patch 12 (26 tokens)": openvino(shape=Shape(side_px=60, patch_px=12)),
            "depth 8": openvino(shape=Shape(depth=8)),
            "width 128, 2 heads, 64 tokens": openvino(
                shape=Shape(class_token=False, width=128, heads=2, units=512)
            ),
            "2 heads of 96": openvino(shape=Shape(heads=2)),
            "6 heads of 32": openvino(shape=Shape(heads=6)),
        },
    ),
    *tries(
        THREADS,
        **{
            "1 thread": openvino(),
            "1 thread, pinned": openvino(settings=PINNED),
            "2 threads": openvino(threads=2),
            "2 threads, pinned": openvino(threads=2, settings=PINNED),
            "2 threads, no hyper-threading": openvino(
                threads=2, settings={"ENABLE_HYPER_THREADING": False}
            ),
            "2 threads, performance cores only": openvino(
                threads=2, settings={"SCHEDULING_CORE_TYPE": "PCORE_ONLY"}
            ),
        },
    ),
    *tries(
        SEVERAL,
        **{
            "one by one": openvino(),
            "batch of 2": openvino(batch=2),
            "batch of 8": openvino(batch=8),
            "batch of 8, 2 threads": openvino(batch=8, threads=2),
            "pairs, 2 streams of 1 thread": pairs(threads=2),
            "pairs, 2 streams on 1 thread": pairs(threads=1),
        },
    ),
    *tries(
        FRAMES,
        **{
            "128 px shrunk by OpenCV": from_frame(in_graph=False),
            "128 px shrunk in the graph": from_frame(in_graph=True),
        },
    ),
    *tries(
        ONNX,
        **{
            "int8": onnx_runtime(),
            "attention in float": onnx_runtime(form="int8, attention in float"),
            "int8-dynamic": onnx_runtime(form="int8-dynamic"),
            "int8-dynamic, 64 tokens, ReLU": onnx_runtime(
                form="int8-dynamic", shape=Shape(class_token=False, activation="relu")
            ),
            "8 bits by block (MatMulNBits)": onnx_runtime(form="8 bits by block"),
            "4 bits by block (MatMulNBits)": onnx_runtime(form="4 bits by block"),
            "batch fixed to 1": onnx_runtime(fixed_batch=True),
            "int8-dynamic, batch fixed to 1": onnx_runtime(form="int8-dynamic", fixed_batch=True),
            "without layout changes (extended)": onnx_runtime(level="ORT_ENABLE_EXTENDED"),
            "QDQ pairs not fused (basic)": onnx_runtime(level="ORT_ENABLE_BASIC"),
            "weights not packed beforehand": onnx_runtime(
                options={"session.disable_prepacking": "1"}
            ),
            "2 threads": onnx_runtime(threads=2),
            "2 threads that spin": onnx_runtime(threads=2, options=BUSY_SPIN),
            "int8-dynamic, 2 threads": onnx_runtime(form="int8-dynamic", threads=2),
        },
    ),
]


def measure(group: Sequence[Try], kitchen: Kitchen, rounds: int) -> list[dict[str, Any]]:
    """A row for each try of one group."""
    ways: dict[str, Way] = {one.name: one.opened(kitchen) for one in group}
    taken, _ = take_turns({name: way.call for name, way in ways.items()}, rounds=rounds)
    per_image: dict[str, Micros] = {name: taken[name] / ways[name].images for name in ways}
    first = group[0].name
    rows = [
        {
            "group": one.group,
            "name": one.name,
            "images": ways[one.name].images,
            "call_p50_us": round(float(np.median(taken[one.name])), 1),
            "image_p50_us": round(float(np.median(per_image[one.name])), 1),
            "image_p10_us": round(float(np.percentile(per_image[one.name], 10)), 1),
            "against": first,
            "ratio": ratio(per_image, one.name, first),
        }
        for one in group
    ]
    del ways
    gc.collect()
    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """For people."""
    told = ""
    for row in rows:
        if row["group"] != told:
            told = row["group"]
            print(f"\n{told:38s} ms/image (p10)   ratio (95 %)")
        held, p50, p10 = row["ratio"], row["image_p50_us"] / 1e3, row["image_p10_us"] / 1e3
        print(
            f"  {row['name']:36s} {p50:6.3f} ({p10:.3f})"
            f"   {held['p50']:.3f} ({held['low']:.3f} to {held['high']:.3f})",
            flush=True,
        )


def main() -> None:
    """Make, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the models")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--group", choices=sorted({t.group for t in TRIES}), help="this one alone")
    parser.add_argument("--quick", action="store_true", help="30 rounds; nothing is recorded")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    kitchen = Kitchen(asked.work.resolve())
    groups = dict.fromkeys(t.group for t in TRIES if asked.group in (None, t.group))
    rows: list[dict[str, Any]] = []
    for name in groups:
        found = measure(
            [t for t in TRIES if t.group == name], kitchen, 30 if asked.quick else asked.rounds
        )
        print_table(found)
        rows += found
    if not asked.quick and asked.group is None:
        head = circumstances("time of one image, ViT-Ti of 64x64 pixels and what was tried on it")
        keep(RESULTS / "roofline.json", {**head, "rounds": asked.rounds, "rows": rows})


if __name__ == "__main__":
    main()
