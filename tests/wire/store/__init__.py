"""Tests of the Redis client, on a real server."""
