"""The commands of `lifelong`, those of one subject in each file. Heavy modules are imported when a command runs.

    context (--config, --set) -> a command -> the module that does the work        exits: the exit code of each error

A command parses its flags, calls one function of `services` or of another room, and prints the result. What
`rollout` and `versions` say to a human is in `rollout_text`; `output` prints it, and shows what is under way.
"""
