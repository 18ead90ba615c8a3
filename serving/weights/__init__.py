"""Takes new weights: follows the plan, loads the versions that it names, and makes them the engine's active ones.

`swap` follows the plan of a task in a thread of its own; `followed_plan` knows how old a plan may be, and `disk_cache`
has what answers in files, for a start without the store. `loader` fetches
and verifies a version, and holds the loaded ones; `manifests` notices numbers that name others now; `in_use` has the
weights that versions share, of all tasks; `refusals` are those that were not taken, and `load_guard` decides when a new
encoder may be loaded. `active` is what the engine reads: a plan and its versions. `health` counts how these do.
`precision` times INT8 and INT4, and chooses one of them for each batch.
"""
