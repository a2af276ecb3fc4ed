"""The document of all benchmarks, ``docs/benchmarks.md``: every benchmark owns one marked section of it.

A section stands between ``<!-- forest -->`` and ``<!-- /forest -->``, its first line being its heading, as in
``## The adaptive forest``. Sections stand in the order of their names.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DOCUMENT", "FIGURES", "REPOSITORY", "replace_section"]

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
FIGURES = DOCUMENT.with_suffix("")  # the folder with <name>.json, the raw figures

HEAD = "# Benchmarks\n\nOne section a benchmark; each is written by the command it names.\n"
SECTION = re.compile(r"<!-- (?P<name>[\w-]+) -->\n(?P<text>.*?)\n<!-- /(?P=name) -->\n", re.DOTALL)


def replace_section(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Put one benchmark's section into the document, the others left as they are.

    Parameters
    ----------
    name
        The benchmark, as its file of raw figures is called.
    text
        Markdown, beginning with a heading of the second level.
    document
        The file; made when missing.
    """
    written = document.read_text(encoding="utf-8") if document.exists() else ""
    sections = {match["name"]: match["text"] for match in SECTION.finditer(written)}
    sections[name] = text.strip()
    parts = [f"<!-- {title} -->\n{sections[title]}\n<!-- /{title} -->\n" for title in sorted(sections)]
    document.write_text("\n".join([HEAD, *parts]), encoding="utf-8")
