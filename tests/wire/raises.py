"""A module that raises when it is imported, as one of others may."""

raise RuntimeError("not today")
