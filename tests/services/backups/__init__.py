"""Tests of backups, on a real Redis."""
