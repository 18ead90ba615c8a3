"""The sides of a comparison, each in a process of its own: what others would do, and ours beside it."""
