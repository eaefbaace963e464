"""The commands that are no operations: they start processes, or work without a data folder. Each module has `command`."""
