"""The share of the line that is bundle, measured through the real host and a simulated sensor."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import succeed
from tiny_suite import build_tiny_suite

from lineside.bundle import make_thin_copy


def test_a_quick_look_tells_shares_and_keeps_them(tmp_path: Path) -> None:
    suite = build_tiny_suite(tmp_path / "suite", [("small_cnn", "int8")])

    told = succeed("measure", "flash", suite.folder, "--quick", "--out", tmp_path / "out")

    kept = json.loads((tmp_path / "out/flash.json").read_text("utf-8"))
    (row,) = kept["rows"]
    assert row["framing"] in told.stdout
    with suite.open(suite.sealed[0]) as bundle:
        thin = make_thin_copy(bundle, tmp_path / "thin.lsb", engine="onnxruntime")
    assert row["sent_bytes"] == thin.stat().st_size
    assert 0.0 < row["share_of_wire"] < row["share_of_ceiling"] < 1.05
    assert (tmp_path / "out/flash.png").read_bytes().startswith(b"\x89PNG")
