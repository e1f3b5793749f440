"""What the runners open: taken out of the sealed suite into plain files, once a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lineside.bundle import Bundle
from lineside.errors import InputDataError
from lineside.golden import GOLDEN_PART, decode_golden
from lineside_bench.peers.roster import OURS, Peer
from lineside_bench.peers.running import PeerFault
from lineside_bench.suite import Suite

_FORMS = ("fp32", "int8")


@dataclass(frozen=True, kw_only=True)
class PeerFiles:
    """Where things lie.

    Attributes:
        suite: the sealed models.
        folder: of this run; goes with it.
        images: (N, H, W, C) uint8, the golden frames of the ViT-Ti, by `numpy.save`.
        key: public key of the suite.
    """

    suite: Suite
    folder: Path
    images: Path
    key: Path

    def model(self, peer: Peer, form: str) -> Path:
        """What a peer opens in this form.

        Raises:
            PeerFault: the suite does not hold it.
        """
        if peer.opens == "bundle":
            try:
                return self.suite.path(self.suite.pick(peer.model, form)).absolute()
            except InputDataError as error:
                raise PeerFault(str(error)) from error
        if peer.opens == "engine":
            (file,) = (self.folder / form / peer.engine).glob("model.[ox][nm][nl]*")
            return file
        run = (self.suite.folder / "work" / OURS).absolute()
        path = run / "candidate" / "program.pt2" if peer.opens == "program" else run
        if not path.exists():
            raise PeerFault(f"SUITE/work was not carried along: no {path.relative_to(run.parent)}")
        return path

    def fresh(self, name: str) -> Path:
        """A folder of its own for a process, not made yet."""
        # Inductor gives such names to a shell: nothing in them that a shell would read.
        safe = "".join(letter if letter.isalnum() else "-" for letter in name)
        begun = len(list((self.folder / "processes").glob("*")))
        return self.folder / "processes" / f"{begun}-{safe}"


def lay_out(suite: Suite, folder: Path) -> PeerFiles:
    """Write the models of both engines and forms, and the images.

    Raises:
        InputDataError: the suite has no ViT-Ti.
    """
    images = folder / "images.npy"
    for form in _FORMS:
        with suite.open(suite.pick(OURS, form)) as bundle:
            _write_models(bundle, folder / form)
            golden = decode_golden(bytes(bundle.part(GOLDEN_PART)), source=GOLDEN_PART)
        np.save(images, np.stack([frame.pixels_hwc for frame in golden.frames]))
    return PeerFiles(suite=suite, folder=folder, images=images, key=suite.key.absolute())


def _write_models(bundle: Bundle, folder: Path) -> None:
    for model in bundle.manifest.models:
        for part in model.parts:
            path = folder / model.engine / Path(part).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(bundle.part(part)))
