"""One command for each published number."""
