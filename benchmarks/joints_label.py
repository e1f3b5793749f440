"""What the synthetic joints' label can be guessed from, and what they look like.

    python benchmarks/joints_label.py    # writes benchmarks/results/joints_label.json
                                         # and docs/images/joints.png

Ridge regressions on a few features are fitted on the training and validation parts and judged on
the test parts of a split by part. A label that mean brightness explains would teach nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from results_folder import RESULTS

from lineside_bench.record import circumstances, keep
from lineside_trainer.data.folds import assign_parts
from lineside_trainer.data.joints import CYCLES, Inspected, make_part

ROOT = Path(__file__).parent.parent
RESULT = RESULTS / "joints_label.json"
PICTURE = ROOT / "docs" / "images" / "joints.png"
RIDGE = 1.0
SHOWN = (1, 6, 12, 17)

Parts = Sequence[tuple[Inspected, ...]]
Features = NDArray[np.float64]


def features(parts: Parts) -> dict[str, Features]:
    """(N, F) by name, one row an image."""
    images = np.array([one.image_hw for part in parts for one in part], dtype=np.float64)
    count = len(images)
    led_type = np.eye(9)[np.repeat(np.arange(len(parts)) % 9, len(CYCLES))]
    cycles = np.eye(len(CYCLES))[np.tile(np.arange(len(CYCLES)), len(parts))]
    cracked = np.array([[one.crack_area_fraction] for part in parts for one in part])
    return {
        "mean brightness": images.mean(axis=(1, 2))[:, np.newaxis],
        "mean brightness and LED type": np.hstack(
            [images.mean(axis=(1, 2))[:, np.newaxis] / 255, led_type]
        ),
        "LED type and cycles": (led_type[:, :, np.newaxis] * cycles[:, np.newaxis]).reshape(
            count, -1
        ),
        "16x16 pixels": images.reshape(count, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(count, -1),
        "crack area": cracked,
        "crack area by LED type": np.hstack([cracked * led_type, led_type]),
    }


def judged_r2(feature: Features, target: Features, test: NDArray[np.bool_]) -> float:
    """R² on the test rows of a ridge fitted on the others, features standardised."""
    mean, std = feature[~test].mean(axis=0), feature[~test].std(axis=0) + 1e-9
    x = (feature - mean) / std
    offset = target[~test].mean()
    gram = x[~test].T @ x[~test] + RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[~test].T @ (target[~test] - offset))
    rest = target[test] - offset - x[test] @ weights
    return float(1.0 - np.mean(rest**2) / np.var(target[test]))


def measure(parts: Parts, seed: int) -> dict[str, object]:
    """R² by feature, and how the label is distributed."""
    increase = np.array([[one.delta_b_max for one in part] for part in parts])
    sizes = np.full(len(parts), len(CYCLES), dtype=np.int64)
    test = np.repeat(assign_parts(sizes, (0.6, 0.2, 0.2), seed=seed) == 2, len(CYCLES))
    return {
        "test_images": int(test.sum()),
        "delta_b_max_deviation": round(float(increase.std()), 4),
        "largest_delta_b_max": round(float(increase.max()), 3),
        "share_beyond_20_percent": {
            str(cycles): round(float((increase[:, at] > 0.2).mean()), 4)
            for at, cycles in enumerate(CYCLES)
        },
        "ridge_r2_on_test_parts": {
            name: round(judged_r2(feature, increase.ravel(), test), 3)
            for name, feature in features(parts).items()
        },
    }


def draw(parts: Parts) -> NDArray[np.uint8]:
    """Some parts over their life, the crack mask at the end beside them."""
    rows = []
    for number in SHOWN:
        tiles = [one.image_hw for one in parts[number]] + [parts[number][-1].crack_mask_hw]
        rows.append(np.hstack([np.pad(tile, 2, constant_values=255) for tile in tiles]))
    sheet = np.vstack(rows)
    return np.repeat(np.repeat(sheet, 2, axis=0), 2, axis=1)


def main() -> None:
    """Measure, draw, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--parts", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few parts; nothing is written")
    asked = parser.parse_args()
    count = 90 if asked.quick else asked.parts
    if count <= max(SHOWN):
        parser.error(f"--parts {count}: at least {max(SHOWN) + 1}, which the picture shows")
    parts = [make_part(number, seed=asked.seed, size_px=64) for number in range(count)]
    result = {
        **circumstances("share of the label's variance that simple features explain"),
        "parts": count,
        "seed": asked.seed,
        **measure(parts, asked.seed),
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if not asked.quick:
        keep(RESULT, result)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(PICTURE), draw(parts), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
