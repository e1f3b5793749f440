"""Topic names: ``lineside/v1/<site>/<line>/<station>/…``."""

from __future__ import annotations

from dataclasses import dataclass

from lineside.errors import ConfigurationError

ROOT = "lineside/v1"
PART_LIMIT_BYTES = 64
COMMANDS = ("trigger", "changeover", "disposition", "mended")
# What is signed, and the bytes that a signed command announces; docs/commands.md.
REMOTE = ("signed", "chunk")
KINDS = (
    *("verdict", "verdict/bin", "history", "findings", "state", "health", "ack"),
    *(f"cmd/{command}" for command in (*COMMANDS, *REMOTE)),
)


def check_topic_part(part: str, *, path: str) -> str:
    """Refuse what would make another topic than the one that is meant.

    Raises:
        ConfigurationError: empty, too long, a wildcard, a slash, a control character, or ``$`` in
            front, where brokers keep topics of their own (MQTT 3.1.1, sec. 4.7.2).
    """
    bad = sorted({char for char in part if char in "+#/" or not char.isprintable()})
    if bad:
        raise ConfigurationError(
            f"{path} = {part!r}: {', '.join(map(repr, bad))} cannot stand in an MQTT topic's part",
            path=path,
        )
    if not part.strip():
        raise ConfigurationError(f"{path} is empty; it needs a name", path=path)
    if part.startswith("$"):
        raise ConfigurationError(f"{path} = {part!r}: begins with '$', as brokers' own", path=path)
    if len(part.encode("utf-8")) > PART_LIMIT_BYTES:
        raise ConfigurationError(
            f"{path} = {part!r}: longer than {PART_LIMIT_BYTES} bytes", path=path
        )
    return part


def check_topic_prefix(prefix: str, *, path: str) -> str:
    """Refuse a beginning of topics that has an empty level or one that `check_topic_part` refuses.

    Raises:
        ConfigurationError: see there.
    """
    for level in prefix.split("/"):
        check_topic_part(level, path=path)
    return prefix


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
        """One message a part that is younger than its expiry, never retained."""
        return f"{ROOT}/{self}/verdict"

    @property
    def verdict_bin(self) -> str:
        """The same, packed."""
        return f"{ROOT}/{self}/verdict/bin"

    @property
    def history(self) -> str:
        """Verdicts of parts that the line has given up on."""
        return f"{ROOT}/{self}/history"

    @property
    def findings(self) -> str:
        """What speaks against a part, beside its verdict."""
        return f"{ROOT}/{self}/findings"

    @property
    def state(self) -> str:
        """The station's state, retained, with last will."""
        return f"{ROOT}/{self}/state"

    @property
    def health(self) -> str:
        """How the machine is, now and then."""
        return f"{ROOT}/{self}/health"

    @property
    def ack(self) -> str:
        """Answers to commands."""
        return f"{ROOT}/{self}/ack"

    @property
    def commands(self) -> str:
        """The filter of all commands."""
        return f"{ROOT}/{self}/cmd/+"

    def command(self, name: str) -> str:
        """Where one command is given, ``trigger`` and the like; ``signed`` and ``chunk`` too."""
        return f"{ROOT}/{self}/cmd/{name}"


def parse_topic(topic: str) -> tuple[StationTopics, str] | None:
    """Whose topic it is, and which of ``KINDS``; ``None`` when it is not one of ours."""
    parts = topic.split("/", 5)
    if len(parts) != 6 or "/".join(parts[:2]) != ROOT or parts[5] not in KINDS:
        return None
    return StationTopics(site=parts[2], line=parts[3], station=parts[4]), parts[5]


def topic_filters(
    *,
    site: str = "+",
    line: str = "+",
    station: str = "+",
    kinds: tuple[str, ...] = ("verdict", "state"),
) -> tuple[str, ...]:
    """What to subscribe to in order to hear these stations; ``+`` means every one."""
    return tuple(f"{ROOT}/{site}/{line}/{station}/{kind}" for kind in kinds)
