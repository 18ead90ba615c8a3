"""The commands, a group a file. Nothing heavy is imported before a command runs."""
