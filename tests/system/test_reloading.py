"""What a running system may change of its file, and what it says of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from headrace.app.world import context
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.types import RequestFeatures, WindowView
from headrace.kernel.errors import CheckFailed, InvalidSystem
from headrace.registry.declarations import keep, running
from headrace.registry.tables import DECLARATIONS
from headrace.system.load import load_system
from headrace.system.reloading import described, reload

SYSTEM = """
from datetime import datetime

import headrace as hr

system = hr.System("shop")


@system.stream(id="n", key="card", time="at")
class Sale:
    n: int
    card: int
    at: datetime
    amount: float


card = system.windows(Sale, by="card", over=["1h"], sum=hr.sum("amount"), where=lambda amount: amount > 10)


@system.features
def twice(amount):
    return {"twice": amount * 2}
"""
CHANGED = (
    SYSTEM.replace('key="card", time="at"', 'key="card", time="at", lateness="2d", partitions=2')
    + """

@system.stream(id="n", key="n", time="at", partitions=3)
class Refund:
    n: int
    at: datetime
"""
)


@pytest.fixture
def shop(tmp_path: Path) -> Context:
    return _running(tmp_path / "shop.py", SYSTEM)


def _running(file: Path, content: str) -> Context:
    file.write_text(content)
    ctx = context({"data": str(file.parent / "data"), "system": "shop", "file": str(file), "clock": "real"})
    keep(ctx, ctx.specs)
    return ctx


def test_an_edited_file_leaves_what_was_read_from_it_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(SYSTEM)
    old = load_system(str(file)).specs()
    before = [described(spec) for spec in old.everything()]
    hashes = [source.definition_hash for source in (*old.all(WindowView), *old.all(RequestFeatures))]
    edited = "# a line more\n" + SYSTEM.replace("> 10", "> 20").replace("amount * 2", "amount * 3")
    file.write_text(edited)
    new = load_system(str(file)).specs()
    assert old.origin is not None and new.origin is not None
    again = new.origin.load(old.origin.source)
    assert [described(spec) for spec in again.everything()] == before == [described(spec) for spec in old.everything()]
    assert [source.definition_hash for source in (*again.all(WindowView), *again.all(RequestFeatures))] == hashes
    changed = [spec.name for spec, was in zip(new.everything(), before, strict=True) if described(spec) != was]
    assert changed == ["card", "twice"]


def test_a_reload_adopts_or_says_all_that_stands_against_it(shop: Context, tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(CHANGED)
    with pytest.raises(CheckFailed) as refused:
        reload(shop, check=False)
    assert refused.value.message.splitlines()[1:] == [
        "  stream `sale` (shop.py:9) has another lateness, another partitions",
        "  stream `refund` (shop.py:25) has 3 partitions, more than the 1 of those that run",
    ]
    file.write_text(SYSTEM.replace("> 10", "> 20"))
    told = reload(shop, check=False)
    assert (told.adopted, told.added, told.changed, told.removed) == (True, [], ["view card"], [])
    taken = running(shop)
    assert taken is shop.specs and taken.origin is not None and taken.origin.digest == told.source
    with shop.catalog.reading() as connection:
        assert len(connection.execute(select(DECLARATIONS)).all()) == 2


def test_what_a_contract_reads_belongs_to_it(tmp_path: Path) -> None:
    file, neighbour = tmp_path / "shop.py", tmp_path / "limits_beside.py"
    rule = "LIMIT = 100\n\n\ndef small(amount):\n    return limits_beside.below(amount, LIMIT)\n\n\n@system.stream("
    content = "import limits_beside\n" + SYSTEM.replace("@system.stream(", rule).replace(
        'time="at")', 'time="at", expect=[hr.check(small)])'
    )
    below = "def below(amount, limit):\n    return amount < limit\n"
    old = None
    for text, beside, same in (
        (content, below, False),
        (content.replace("    return l", "    # a comment\n    return l"), below, True),
        (content.replace("LIMIT = 100", "LIMIT = 50"), below, False),
        (content, below.replace("<", "<="), False),
    ):
        file.write_text(text)
        neighbour.write_text(beside)
        specs = load_system(str(file)).specs()
        if old is not None:
            was, now = described(old.get(StreamSpec, "sale")), described(specs.get(StreamSpec, "sale"))
            assert [name for name in was if was[name] != now[name]] == ([] if same else ["expect"])
        old = old or specs


def test_another_limit_of_a_contract_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    rule = "LIMIT = 100\n\n\ndef small(amount):\n    return amount < LIMIT\n\n\n@system.stream("
    content = SYSTEM.replace("@system.stream(", rule).replace('time="at")', 'time="at", expect=[hr.check(small)])')
    shop = _running(file, content)
    file.write_text(content.replace("LIMIT = 100", "LIMIT = 50"))
    with pytest.raises(CheckFailed, match=r"stream `sale` \(shop.py:16\) has another expect"):
        reload(shop, check=False)
    assert running(shop) is shop.specs


BESIDE = "import factors_beside\n" + SYSTEM.replace("amount * 2", "amount * factors_beside.inner.K")


def _write_beside(folder: Path, factor: int) -> None:
    (folder / "factors_beside").mkdir(exist_ok=True)
    (folder / "factors_beside/__init__.py").write_text("from factors_beside import inner\n")
    (folder / "factors_beside/inner.py").write_text(f"K = {factor}\n")


def test_a_neighbour_is_kept_and_adopted_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    _write_beside(tmp_path, 2)
    shop = _running(file, BESIDE)
    before = shop.specs.origin
    assert before is not None
    first = shop.specs.get(RequestFeatures, "twice")
    _write_beside(tmp_path, 3)
    told = reload(shop, check=False)
    assert (told.adopted, told.changed) == (True, ["features twice"])
    second = shop.specs.get(RequestFeatures, "twice")
    assert (first.function(1.0), second.function(1.0)) == ({"twice": 2.0}, {"twice": 3.0})
    assert not reload(shop, check=False).adopted
    shutil.rmtree(tmp_path / "factors_beside")
    for digest, was in ((before.digest, first), (told.source, second)):
        kept = before.load(shop.blobs.get("shop", digest)).get(RequestFeatures, "twice")
        assert (kept.definition_hash, kept.function(1.0)) == (was.definition_hash, was.function(1.0))
    again = context({**shop.child_arguments(), "source": before.digest})
    assert again.specs.get(RequestFeatures, "twice").definition_hash == first.definition_hash
    again.close()


def test_a_change_in_a_folder_without_init_is_adopted(tmp_path: Path) -> None:
    file, rules = tmp_path / "shop.py", tmp_path / "rules_beside/rules.py"
    rules.parent.mkdir()
    rules.write_text("K = 2\n")
    content = "from rules_beside import rules\n" + SYSTEM.replace("amount * 2", "amount * rules.K")
    shop = _running(file, content)
    rules.write_text("K = 3\n")
    told = reload(shop, check=False)
    assert (told.adopted, told.changed) == (True, ["features twice"])
    assert shop.specs.get(RequestFeatures, "twice").function(1.0) == {"twice": 3.0}


def test_what_a_file_reads_is_not_kept_and_it_is_said(tmp_path: Path) -> None:
    file, factor = tmp_path / "shop.py", tmp_path / "factor.txt"
    factor.write_text("2")
    content = SYSTEM.replace("amount * 2", "amount * K")
    shop = _running(file, f"from pathlib import Path\n\nK = int(Path({str(factor)!r}).read_text())\n" + content)
    factor.write_text("3")
    with pytest.raises(CheckFailed, match=r"what `shop\.py` reads changed: `features twice`"):
        reload(shop, check=False)
    assert running(shop) is shop.specs
    file.write_text(file.read_text() + "# with the other factor\n")
    told = reload(shop, check=False)
    assert (told.adopted, told.changed) == (True, ["features twice"])


def test_broken_syntax_is_a_bad_system_file(shop: Context, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("x = (")
    with pytest.raises(InvalidSystem, match=r"^shop.py:1: '\(' was never closed\nhint: mend the syntax$"):
        reload(shop, check=False)
    assert running(shop) is shop.specs


@pytest.mark.slow
def test_a_file_that_cannot_be_read_changes_nothing(shop: Context, tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    for content, kind, message in (
        (SYSTEM.replace('"shop"', '"other"'), CheckFailed, "declares the system `other`"),
        (SYSTEM + "\nraise SystemExit(3)\n", InvalidSystem, "SystemExit"),
        (SYSTEM + "\nimport os\nos._exit(7)\n", CheckFailed, "failed"),
    ):
        file.write_text(content)
        with pytest.raises(kind, match=message):
            reload(shop, check=False)
    assert running(shop) is shop.specs
