"""Decides which version answers which share of the traffic: new versions become candidates, labels promote or withdraw.

    notice of a version -> controller --.
    answers, labels -> judge -> decider -+-> change -> RolloutPlan, in Redis

`controller` leads under a lease, follows the current version and collects old ones; `retention` says which are kept.
`judge` reads the topics in a thread, `decider` turns what it reads into `evidence`, which keeps the answers that are
`waiting` for their labels and which `influence` bounds for each source, and applies the `rule`. `paired_rule` decides
by labelled events that both versions answered (`paired_evidence`), with the tests of `statistics`; the decider does not
ask it yet. `plans` are the pure steps from one plan to the next, and `change` writes them by compare and swap.
`operator` has the commands of an operator, `alarms` what fails now, `config` the settings.

Other rooms may use `controller`, `judge`, `decider`, `operator`, `config`, `plans` and `change`.
"""
