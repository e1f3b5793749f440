"""Documents that can go stale: links, exit codes, verbs, the devices' table."""

from __future__ import annotations

import importlib
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

from lineside.errors import LinesideError

ROOT: Final = Path(__file__).parents[2]
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
ERROR_MODULES: Final = (
    "lineside.errors",
    "lineside_trainer.errors",
    "lineside_export.errors",
    "lineside_bridge.errors",
)


def documents() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, check=True
    )
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file()]


def anchors(file: Path) -> set[str]:
    """Heading anchors as the usual renderers make them."""
    headings = re.findall(r"^#+ +(.+?) *#*$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def broken_links(document: Path) -> list[str]:
    """Relative links of a document that lead nowhere."""
    broken = []
    for target in LINK.findall(without_code(document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        file = (document.parent / name).resolve() if name else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


def test_every_relative_link_leads_somewhere() -> None:
    found = {str(doc.relative_to(ROOT)): broken_links(doc) for doc in documents()}

    assert len(found) >= 4
    assert not {name: links for name, links in found.items() if links}


def test_a_broken_link_would_be_seen(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One thing\n[a](b.md) [c](#one-thing) [d](#two) `[e](f.md)`\n", "utf-8")

    assert broken_links(document) == ["b.md", "#two"]


def error_classes() -> list[type[LinesideError]]:
    """Every error class of the four distributions."""
    for name in ERROR_MODULES:
        importlib.import_module(name)
    found: list[type[LinesideError]] = [LinesideError]
    for known in found:
        found.extend(kind for kind in known.__subclasses__() if kind not in found)
    return [kind for kind in found if kind.__module__ in ERROR_MODULES]


def documented_exit_codes() -> dict[int, str]:
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    section = text.split("## Exit codes", 1)[1].split("\n## ", 1)[0]
    return {int(code): rest for code, rest in re.findall(r"^\| (\d+) \|(.*)$", section, re.M)}


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_exit_code_of_an_error_is_documented(kind: type[LinesideError]) -> None:
    row = documented_exit_codes()[kind.exit_code]

    if "exit_code" in vars(kind):
        assert f"`{kind.__name__}`" in row


def test_no_exit_code_is_documented_that_nothing_gives() -> None:
    given = {kind.exit_code for kind in error_classes()}
    of_the_shell = {0, 2, 130, 141}

    assert set(documented_exit_codes()) == given | of_the_shell


def test_every_verb_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    verbs = {point.name for point in metadata.entry_points(group="lineside.commands")}

    assert verbs
    assert not [verb for verb in verbs if f"`lineside {verb}" not in text]
