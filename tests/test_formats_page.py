"""docs/formats.md says what is written today."""

import re
from pathlib import Path

from benchmarks.formats import OUTPUTS, PAGE, SOURCES, Outcome, make_source, outcome, page


def words(text: str) -> dict[str, list[str]]:
    """The words of the table's cells, without the numbers of the notes, by source."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    return {
        row[0]: [re.sub(r"[ \d,]+$", "", c) for c in row[1:]] for row in rows if row[0] in SOURCES
    }


def test_the_table_is_that_of_a_run(tmp_path: Path) -> None:
    table = {}
    for name in SOURCES:
        source = make_source(tmp_path, name)
        table[name] = {suffix: outcome(source, tmp_path / f"out{suffix}") for suffix in OUTPUTS}
    assert len(table) * len(OUTPUTS) == 40
    assert words(page(table)) == words(PAGE.read_text())
    # Nothing is lost without a word, and a refusal is followed by what can be done.
    for row in table.values():
        for one in row.values():
            assert one.differences == ()
            assert one.kept or "; use ." in one.said[0] or "; no other holds" in one.said[0]


def test_a_cell_names_its_notes() -> None:
    notes = ["a"]
    assert Outcome(kept=True, said=()).cell(notes) == "kept"
    assert Outcome(kept=True, said=("b",), differences=("a",)).cell(notes) == "changed 2, 1"
    assert Outcome(kept=False, said=("c",)).cell(notes) == "refused 3"
    assert notes == ["a", "b", "c"]
