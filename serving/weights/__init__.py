"""Takes new weights: follows the plan, loads the versions that it names, and makes them the engine's active ones.

`swap` follows the plan in a thread of its own; `resident` holds the loaded versions, `loader` fetches and verifies one,
`refusals` are the versions that were not taken. `active` is what the engine reads: a plan and its versions. `precision`
chooses INT8 or INT4 for each batch, by the times that `latency` measured.
"""
