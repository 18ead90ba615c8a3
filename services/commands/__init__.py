"""The commands of `lifelong`, one subject in each file. Heavy modules are imported only when a command runs.

    context (--config, --set) -> a command -> the module that does the work        exits: the exit code of each error

A command parses its options, calls one function of `services` or of another room, and prints the result. `rollout_text`
renders plans and decisions; `output` prints lines, and shows progress.
"""
