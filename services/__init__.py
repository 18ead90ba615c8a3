"""The processes you start and the commands you type."""
