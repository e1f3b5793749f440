"""What a trained ViT-Ti's accuracy becomes when it is changed as `roofline.py` tries it.

    lineside dataset joints WORK/joints --parts 120 --seed 7
    lineside train --data WORK/joints --group part --target delta_b_max --limit 0.2 \\
        --arch vit_tiny --batch-size 32 --lr 3e-4 --epochs 20 --precision bf16 --out WORK/run
    python benchmarks/roofline_accuracy.py --run WORK/run --data WORK/joints

Each network starts from the trained weights, is tuned for as many epochs as the unchanged one, and
goes into int8 for OpenVINO; MSE on validation images. A network takes 2 minutes on one busy core.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from results_folder import RESULTS
from roofline_networks import OPENVINO_FORMS, Images, Shape, build, given_of, to_onnx

from lineside_bench.record import circumstances, keep
from lineside_export import openvino_ir
from lineside_export.formats import openvino_format
from lineside_trainer.models.regressor import Regressor

TARGET: Final = "delta_b_max"
LIMIT: Final = 0.2
RATE: Final = 1.5e-4
BATCH: Final = 32
NETWORKS: Final = {
    "ViT-Ti": Shape(),
    "ReLU": Shape(activation="relu"),
    "GELU in pieces": Shape(activation="hardgelu"),
    "64 tokens": Shape(class_token=False),
    "64 tokens, ReLU": Shape(class_token=False, activation="relu"),
}
Floats = NDArray[np.float32]


def read_fold(run: Path, data: Path, fold: str) -> tuple[Images, Floats]:
    """(N, H, W, 1) images and (N,) targets."""
    files = json.loads((run / "split.json").read_text(encoding="utf-8"))["files"][fold]
    with (data / "labels.csv").open(newline="", encoding="utf-8") as table:
        targets = {row["file"]: float(row[TARGET]) for row in csv.DictReader(table)}
    return np.stack([_read(data / file) for file in files]), np.array(
        [targets[file] for file in files], np.float32
    )


def _read(file: Path) -> Images:
    pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise SystemExit(f"{file}: cannot be read")
    return pixels.astype(np.uint8)[..., np.newaxis]


def start(shape: Shape, run: Path) -> Regressor:
    """The network with the run's weights; a class token's are left out where there is none."""
    weights = dict(torch.export.load(run / "candidate" / "program.pt2").state_dict)
    network = build(shape)
    if not shape.class_token:
        weights["backbone.net.pos_embed"] = weights["backbone.net.pos_embed"][:, 1:].clone()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network


def tune(network: Regressor, images: Images, targets: Floats, epochs: int, seed: int) -> None:
    """AdamW with warm-up and cosine, flips, bfloat16; in place."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    steps = len(images) // BATCH * epochs
    order = np.concatenate(
        [draw.permutation(len(images))[: steps // epochs * BATCH] for _ in range(epochs)]
    )
    network.train()
    for step, rows in enumerate(order.reshape(steps, BATCH)):
        rate = RATE * min(1.0, (step + 1) / (0.1 * steps)) * (1 + np.cos(np.pi * step / steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        taken = images[rows][:, :: draw.choice((1, -1)), :: draw.choice((1, -1))]
        with torch.autocast("cpu", torch.bfloat16):
            found = network(torch.from_numpy(np.ascontiguousarray(taken)))
        missed = (found.float() - torch.from_numpy(targets[rows])) / network.target_std
        optimiser.zero_grad()
        missed.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    network.eval()


def infer(network: Regressor, images: Images) -> Floats:
    """(N,) in float32."""
    with torch.no_grad():
        parts = [network(part) for part in torch.split(torch.from_numpy(images), BATCH)]
    found: Floats = torch.cat(parts).numpy()
    return found


def judge(network: Regressor, shape: Shape, run: Path, data: Path) -> dict[str, float]:
    """MSE on the validation images, in float and in int8, and verdicts that int8 flips."""
    given = given_of(shape)
    images, targets = read_fold(run, data, "validation")
    ranges, _ = read_fold(run, data, "quantisation")
    quantised = OPENVINO_FORMS["int8"](to_onnx(network, given), ranges, given)
    form = openvino_format("int8", openvino_ir.ir_bytes(quantised))
    exact, rounded = infer(network, images), form.infer(images, given)["value"]
    return {
        "mse_float": float(np.square(exact - targets).mean()),
        "mse_int8": float(np.square(rounded - targets).mean()),
        "flips": int(((exact > LIMIT) != (rounded > LIMIT)).sum()),
    }


def main() -> None:
    """Tune each, judge each, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="of `lineside train`")
    parser.add_argument("--data", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images, targets = read_fold(asked.run, asked.data, "training")
    rows = []
    for seed in range(asked.seeds):
        for name, shape in NETWORKS.items():
            network = start(shape, asked.run)
            tune(network, images, targets, asked.epochs, seed)
            rows.append(
                {"network": name, "seed": seed, **judge(network, shape, asked.run, asked.data)}
            )
            print(rows[-1], flush=True)
    head = circumstances("validation MSE of a ViT-Ti that was changed and tuned again")
    keep(RESULTS / "roofline_accuracy.json", {**head, "epochs": asked.epochs, "rows": rows})


if __name__ == "__main__":
    main()
