"""A station whose model on trial hangs, as a process.

``python hung_station.py FOLDER URL SOURCE`` runs over the store of toy bundles FOLDER/slots until
it ends itself. SOURCE is ``folder``: it judges the frames of FOLDER/frames; or ``camera``: three
parts, of which none can come again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from frame_feed import Feed
from toy_slots import ToyStore

from lineside.mqtt import MqttSettings, StationTopics
from lineside.outbox import Outbox, OutboxSettings
from lineside.sources import FolderSettings, FolderSource
from lineside.station import Products, Station
from lineside.station.slotting import Slotting


def main() -> None:
    """See above."""
    folder, url, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    toy = ToyStore(folder / "slots")
    keeper = toy.keeper(hang_s=1.0)
    toy.models["2"].free.clear()
    products = Products([keeper.product])
    outbox = Outbox(OutboxSettings(path=folder / "outbox.sqlite"))
    frames = FolderSettings(path=folder / "frames", watch=True, settle_ms=0, poll_ms=10)
    feed = Feed()
    for number in range(3):
        feed.give(f"P{number}")
    station = Station(
        topics=StationTopics(site="plant1", line="line3", station="aoi1"),
        products=products,
        source=feed if kind == "camera" else FolderSource(frames, memory=outbox),
        outbox=outbox,
        mqtt=MqttSettings(url=url),
        slotting=Slotting(products, [keeper], look_s=0.1),
    )
    station.run(drain_timeout_s=1.0)


if __name__ == "__main__":
    main()
