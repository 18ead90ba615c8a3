"""Tests of `lifelong migrate`, on golden files and a real Redis."""
