"""The complete operation table: every room's operations, imported."""

from __future__ import annotations

import headrace.system.operations
from headrace.kernel.operation import OPERATIONS

__all__ = ["OPERATIONS"]
