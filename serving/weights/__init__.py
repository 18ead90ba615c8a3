"""Takes new weights: follows the plan, loads the versions that it names, and makes them the engine's active ones.

`swap` follows the plan of a task in a thread of its own. `loader` fetches and verifies a version, and holds the loaded
ones; `in_use` has the weights that versions share, of all tasks, with the times of their precisions. `refusals` says
which versions are not loaded, or not yet. `disk` has what a replica keeps of them in files, for a start without the
store. What the engine reads is `serving/models.py`.
"""
