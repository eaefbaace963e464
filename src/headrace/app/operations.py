"""The complete operation table: every room's operations, imported."""

from __future__ import annotations

import headrace.app.status
import headrace.data.operations
import headrace.features.operations
import headrace.governance.operations
import headrace.monitoring.operations
import headrace.pipelines.operations
import headrace.registry.operations
import headrace.release.operations
import headrace.serving.operations
import headrace.system.file_operations
import headrace.system.operations
import headrace.training.operations  # noqa: F401
from headrace.kernel.operation import OPERATIONS

__all__ = ["OPERATIONS"]
