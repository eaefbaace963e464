"""The modules of the fraud example."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "examples" / "fraud"


def fraud(name: str) -> ModuleType:
    """A module of the example, imported as the story imports it; other examples have modules of the same names."""
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
        for other in [n for n, m in sys.modules.items() if str(FOLDER) in str(getattr(m, "__file__", ""))]:
            del sys.modules[other]
