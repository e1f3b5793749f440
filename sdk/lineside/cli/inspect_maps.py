"""What `lineside inspect --maps` writes: a picture for each image of which the model gave a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lineside.contract import AnomalyHead, Contract
from lineside.durable import make_folder, write_durably
from lineside.errors import ConfigurationError, FrameError
from lineside.frame import encode_png, read_frame
from lineside.heatmap import draw_heatmap
from lineside.inspector import Inspector
from lineside.verdict import Verdict


class MapPictures:
    """A folder of pictures; those of an earlier run are replaced, those of this one never.

    Args:
        folder: made where it is not there.
        contract: of the model.
        images: what is going to be inspected.

    Raises:
        ConfigurationError: the model gives no map, or the pictures would lie among the images.
        StorageError: the folder cannot be made.
    """

    def __init__(self, folder: Path, contract: Contract, images: Sequence[Path]) -> None:
        if not isinstance(contract.head, AnomalyHead) or not contract.head.map:
            raise ConfigurationError(
                "--maps: the bundle's model gives no map; leave --maps out", path="maps"
            )
        if folder.resolve() in {image.resolve().parent for image in images}:
            raise ConfigurationError(
                f"--maps {folder}: holds images to inspect, and the next run would take the "
                "pictures for such; name another folder",
                path="maps",
            )
        make_folder(folder)
        self._folder = folder
        self._contract = contract
        self._taken: set[str] = set()

    def judge(self, inspector: Inspector, file: Path) -> tuple[Verdict, Path | None]:
        """Inspect an image, and draw its map where there is one: the verdict, and the picture.

        Raises:
            StorageError: the picture cannot be written.
        """
        try:
            frame = read_frame(file, part_id=file.stem)
        except FrameError:
            return inspector.inspect_file(file, part_id=file.stem), None
        found = inspector.inspect_with_map(frame)
        if found.map_hw is None:
            return found.verdict, None
        picture = draw_heatmap(frame.pixels_hwc, found.map_hw, found.verdict, self._contract)
        path = self._folder / self._name(file.stem)
        write_durably(path, [encode_png(picture)])
        return found.verdict, path

    def _name(self, stem: str) -> str:
        # Images of one name may come from two folders, or with two suffixes.
        number, name = 1, f"{stem}.map.png"
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}.map.png"
        self._taken.add(name)
        return name
