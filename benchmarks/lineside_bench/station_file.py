"""The station that is measured: its file, and the topic under which it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lineside_bench.suite import Sealed, Suite

STATION: Final = "lineside/v1/bench/bench/bench"
_STATION_TOML: Final = """\
[station]
site = "bench"
line = "bench"
name = "bench"
[bundle]
path = "{bundle}"
trust = ["{trust}"]
[source]
kind = "folder"
path = "frames"
watch = true
settle_ms = 0
{source}
{trigger}
[outbox]
path = "outbox.sqlite"
keep_free_mib = 1
[mqtt]
url = "{url}"
{mqtt}
"""


def write_station(
    folder: Path,
    suite: Suite,
    sealed: Sealed,
    url: str,
    *,
    source: str = "",
    trigger: str = "",
    mqtt: str = "",
) -> Path:
    """Make the camera's folder ``frames`` and ``station.toml`` beside it.

    Args:
        folder: an empty one, for all that the station keeps.
        suite, sealed: what it judges by.
        url: of the broker.
        source, mqtt: further lines of these sections.
        trigger: a whole section.

    Returns:
        The station's file.
    """
    (folder / "frames").mkdir()
    told = _STATION_TOML.format(
        bundle=suite.path(sealed).resolve(),
        trust=suite.key.resolve(),
        url=url,
        source=source,
        trigger=trigger,
        mqtt=mqtt,
    )
    path = folder / "station.toml"
    path.write_text(told, encoding="utf-8")
    return path
