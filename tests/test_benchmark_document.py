"""Benchmarks share one document without writing over each other."""

from __future__ import annotations

from pathlib import Path

from tests.support.benchmark_document import DOCUMENT, SECTION, replace_section


def test_a_section_is_replaced_and_the_others_are_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    replace_section("speed", "## Speed\n\n| a |\n|---|\n| 1 |", document)
    replace_section("forest", "## Forest\n", document)
    replace_section("speed", "## Speed\n\n| a |\n|---|\n| 2 |\n", document)
    text = document.read_text()
    assert text.index("## Forest") < text.index("## Speed")
    assert text.count("## Speed") == 1 and "| 2 |" in text and "| 1 |" not in text
    replace_section("forest", "## Forest\n", document)
    assert document.read_text() == text


def test_the_published_document_is_made_of_sections_alone(tmp_path: Path) -> None:
    copy = tmp_path / "benchmarks.md"
    copy.write_text(DOCUMENT.read_text())
    found = SECTION.search(copy.read_text())
    assert found is not None
    replace_section(found["name"], found["text"], copy)
    assert copy.read_text() == DOCUMENT.read_text()
