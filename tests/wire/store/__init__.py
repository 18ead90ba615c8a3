"""Tests of the Redis door, on a real server."""
