"""`report.html`: one file that can be mailed; every figure in it is a PNG beside it too."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2

from lineside.durable import write_durably
from lineside_trainer.runs.results import Run


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the report.

    Attributes:
        file: PNG in the run's `figures` folder.
        caption: what it shows, in one sentence.
    """

    file: Path
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture itself, for a page without other files."""
        return "data:image/png;base64," + base64.b64encode(self.file.read_bytes()).decode()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows.

    Attributes:
        title: of the page.
        figures: label to value, the first table; what people came for.
        pictures: in order.
        run: counts, notes, rejected files, provenance.
        experiment: the effective settings, as TOML.
        more: further tables by heading.
    """

    title: str
    figures: dict[str, str]
    pictures: tuple[Picture, ...]
    run: Run
    experiment: str
    more: dict[str, dict[str, str]]


def write_report(path: Path, report: Report) -> None:
    """Render the page.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lineside_trainer", "evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(report=report, run=report.run)
    write_durably(path, [page.encode()])
