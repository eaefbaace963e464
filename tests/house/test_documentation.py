"""Whatever a user can meet has its place in `docs/`, and the generated pages are up to date."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from headrace.app.command_table import WORDS
from headrace.app.operations import OPERATIONS
from headrace.kernel import errors
from headrace.kernel.errors import HeadraceError
from headrace.kernel.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headings(page: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", (DOCS / page).read_text(), flags=re.MULTILINE))


pages = script("pages")


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_generated_page_is_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == pages.PAGES[page](), "run `make docs`"


def test_every_room_of_the_import_contract_is_described() -> None:
    assert list(pages.ROOMS) == pages.layers()


def test_every_command_has_its_heading() -> None:
    names = {f"headrace {o.cli}" for o in OPERATIONS.values() if o.cli} | {
        f"headrace {n}" for n, w in WORDS.items() if w.special
    }
    assert names <= headings("commands.md")


def test_every_setting_has_its_heading() -> None:
    assert {f"HEADRACE_{f.name.upper()}" for f in fields(Settings)} == headings("settings.md") - {"Settings"}
    assert len(fields(Settings)) <= 40


def test_every_error_code_has_its_heading_with_its_codes() -> None:
    found = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, HeadraceError)}
    text = (DOCS / "errors.md").read_text()
    assert {c.code for c in found} == headings("errors.md") - {"Errors"}
    missing = [c.code for c in found if f"## {c.code}\nHTTP {c.status}, exit code {c.exit_code}." not in text]
    assert not missing


def test_every_metric_has_its_row() -> None:
    sources = "".join(p.read_text() for p in (ROOT / "src" / "headrace").rglob("*.py"))
    names = set(re.findall(r'"(headrace_[a-z_]+)"', sources))
    listed = re.findall(r"^\| `(headrace_[a-z_]+)` \|", (DOCS / "metrics.md").read_text(), flags=re.MULTILINE)
    assert names == {name.removesuffix("_total") for name in listed}
    assert names


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "AGENTS.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_decision_says_what_was_decided_and_what_follows() -> None:
    decisions = sorted((DOCS / "adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    for path in decisions:
        text = path.read_text()
        assert all(f"**{part}.**" in text for part in ("Situation", "Decision", "Consequences")), path.name
