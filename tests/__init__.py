"""The tests: they mirror the rooms; `flow/` runs the whole sentence."""
