"""Hot swap of weights: follows the plan, loads the versions that it names, and activates them in the engine.

- `swap`: follows the plan of one task, in its own thread
- `loader`: fetches and verifies versions, and keeps the loaded ones
- `in_use`: the weights that versions of all tasks share, and the measured times of their precisions
- `refusals`: the versions that must not be loaded, or not yet
- `disk`: copies of plan and weights on disk, for a start without the store

The engine reads the records of `serving/models.py`.
"""
