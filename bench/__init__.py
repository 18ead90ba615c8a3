"""Every number that we publish, one command each: `python -m bench [--only NAME]`."""
