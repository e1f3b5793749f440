"""Make a classifier for `YOLO(…)`: YOLO11n-cls from its yaml (nothing is downloaded), exported to
ONNX by ultralytics itself. `python ultralytics_prepare.py IMAGES.npy OUT`.

It judges nothing; its shape decides what it costs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from ultralytics import YOLO


def main() -> None:
    """1,000 classes, as its yaml has them."""
    out = Path(sys.argv[2])
    side_px = int(np.load(sys.argv[1]).shape[1])
    model = YOLO("yolo11n-cls.yaml", task="classify")
    model.save(out / "yolo11n-cls.pt")
    written = YOLO(out / "yolo11n-cls.pt", task="classify").export(format="onnx", imgsz=side_px)
    shutil.move(written, out / "model.onnx")


if __name__ == "__main__":
    main()
