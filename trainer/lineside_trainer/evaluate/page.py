"""A page of tables and drawings about several runs; one file that can be mailed."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from lineside.durable import write_durably


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """One table.

    Attributes:
        heading: above it.
        head: the columns' names.
        rows: cells, as many as there are names.
        notes: below it: how to read it.
    """

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture that lives in the page alone.

    Attributes:
        png: its bytes.
        caption: what it shows, in one sentence.
    """

    png: bytes
    caption: str

    @property
    def uri(self) -> str:
        """The picture itself, for a page without other files."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page shows, in this order.

    Attributes:
        title: of the page.
        warnings: what must not be overlooked.
        tables: what people came for.
        pictures: beside them.
        texts: preformatted, by heading.
    """

    title: str
    warnings: tuple[str, ...] = ()
    tables: tuple[PageTable, ...]
    pictures: tuple[Drawing, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)


def write_page(path: Path, page: Page) -> None:
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
    text = environment.get_template("page.html.jinja").render(page=page)
    write_durably(path, [text.encode()])
