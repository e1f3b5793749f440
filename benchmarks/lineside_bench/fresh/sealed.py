"""A sealed bundle through `lineside.load`: seal, hashes and golden samples checked, one verdict."""

from __future__ import annotations

from typing import Any

from lineside_bench.fresh.telling import Diary, told_to_do


def main() -> None:
    """Run what the argument names."""
    diary = Diary()
    asked = told_to_do()
    import numpy as np

    import lineside

    load = lineside.load
    diary.mark("import")
    inspector = load(asked["bundle"], trust=asked["key"], **_settings(asked))
    diary.mark("load")
    frame = inspector.contract.frame
    size_hw = frame.size_hw or inspector.contract.input.size_hw
    pixels = np.full((*size_hw, frame.channels), 99, np.uint8)
    verdict = inspector.inspect(pixels)
    assert verdict.score is not None, verdict.detail
    diary.close(lambda: inspector.inspect(pixels), asked["frames"])


def _settings(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["engine"] == "auto":
        return {}
    settings = {name: asked[name] for name in ("engine", "precision", "threads")}
    return settings | ({"cache_folder": asked["cache"]} if asked["cache"] else {})


if __name__ == "__main__":
    main()
