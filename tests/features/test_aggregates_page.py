"""The page of aggregates leaves none out. (Its examples are run by tests/house.)"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from headrace.features.hyperloglog import DISTINCT_BOUND
from headrace.features.kernel import MOST_ADDITIONS
from headrace.features.types import AggregateKind

PAGE = (Path(__file__).parents[2] / "docs" / "aggregates.md").read_text()


def test_every_aggregate_has_its_section_its_row_and_an_example():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for kind in get_args(AggregateKind):
        (section,) = [text for text in sections if f"`{kind}`" in text.splitlines()[0]]
        assert "assert column(" in section, kind
        assert sum(f"`{kind}`" in row for row in table) == 1, kind


def test_the_page_names_the_limits_of_the_code():
    assert f"{DISTINCT_BOUND:,}" in PAGE
    assert MOST_ADDITIONS == 10**11 and "10¹¹" in PAGE
