"""What others would do: each peer in a process of its own, which prints one JSON object."""
