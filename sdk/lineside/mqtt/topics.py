"""Topic names: ``lineside/v1/<site>/<line>/<station>/{verdict,state}``."""

from __future__ import annotations

from dataclasses import dataclass

from lineside.errors import ConfigurationError

ROOT = "lineside/v1"
PART_LIMIT_BYTES = 64
KINDS = ("verdict", "state")


def check_topic_part(part: str, *, path: str) -> str:
    """Refuse what would make another topic than the one that is meant.

    Raises:
        ConfigurationError: empty, too long, a wildcard, a slash, a control character.
    """
    bad = sorted({char for char in part if char in "+#/" or not char.isprintable()})
    if bad:
        raise ConfigurationError(
            f"{path} = {part!r}: {', '.join(map(repr, bad))} cannot stand in an MQTT topic's part",
            path=path,
        )
    if not part.strip():
        raise ConfigurationError(f"{path} is empty; it needs a name", path=path)
    if len(part.encode("utf-8")) > PART_LIMIT_BYTES:
        raise ConfigurationError(
            f"{path} = {part!r}: longer than {PART_LIMIT_BYTES} bytes", path=path
        )
    return part


@dataclass(frozen=True, kw_only=True)
class StationTopics:
    """Where one station speaks. Its parts were checked by ``check_topic_part``."""

    site: str
    line: str
    station: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.site}/{self.line}/{self.station}"

    @property
    def verdict(self) -> str:
        """One message a part, never retained."""
        return f"{ROOT}/{self}/verdict"

    @property
    def state(self) -> str:
        """The station's state, retained, with last will."""
        return f"{ROOT}/{self}/state"


def parse_topic(topic: str) -> tuple[StationTopics, str] | None:
    """Whose topic it is, and which kind; ``None`` when it is not one of ours."""
    parts = topic.split("/")
    if len(parts) != 6 or "/".join(parts[:2]) != ROOT or parts[5] not in KINDS:
        return None
    return StationTopics(site=parts[2], line=parts[3], station=parts[4]), parts[5]


def topic_filters(*, site: str = "+", line: str = "+", station: str = "+") -> tuple[str, ...]:
    """What to subscribe to in order to hear these stations; ``+`` means every one."""
    return tuple(f"{ROOT}/{site}/{line}/{station}/{kind}" for kind in KINDS)
