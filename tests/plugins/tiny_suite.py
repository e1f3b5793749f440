"""A suite of measured models in seconds: tiny bundles under the names that measurements ask for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tiny_bundle import build_tiny_bundle

from lineside_bench.suite import KEY_FILE, LIST_FILE, Sealed, Suite, encode_list


def build_tiny_suite(folder: Path, named: Sequence[tuple[str, str]]) -> Suite:
    """Write one.

    Args:
        folder: made where it is missing.
        named: model and form of each; all are the same bundle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny").mkdir()
    tiny = build_tiny_bundle(folder / "tiny")
    shutil.copyfile(tiny.public_key_path, folder / KEY_FILE)
    sealed = []
    for model, form in named:
        file = f"{model.replace(' ', '_')}_{form}.lsb"
        shutil.copyfile(tiny.path, folder / file)
        sealed.append(Sealed(model=model, kind="regression", side_px=32, form=form, file=file))
    (folder / LIST_FILE).write_bytes(encode_list(sealed))
    return Suite(folder=folder, sealed=tuple(sealed))
