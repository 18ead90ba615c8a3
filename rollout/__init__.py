"""Decides which version answers which share of the traffic: one version is judged at a time, the newest ones follow.

    notice of a version -> controller --.
    answers, labels -> judge -> decider -+-> change -> RolloutPlan, in Redis

`controller` leads under a lease, lets the newest arm follow the learner, makes stable what its manifest has the grounds
for by the `publication_rule`, and collects old versions; `retention` says which are kept. `judge` reads the topics in a
thread, and `decider` turns what it reads into decisions: `label_join` finds the verdicts that a label is about, in its
receipt or in the answer that was `waiting` for it (`early_labels` wait for theirs), `judged_events` know which label an
event has, `influence` bounds how many labels of a source count, `tallies` add them up for each pair of versions
(`tallies_state` is what is kept of them), each a `comparison` in which no source decides alone, and `exposure` counts
the answers of the arms. Beside it, `label_to_live` and `swap_skew` measure how soon labels and plans reach the answers,
and `arm_accuracy` how many of an arm's answers are right.
`due_step` asks one question after another which step of the plan follows: `paired_rule` decides by labelled events that
both versions named (`paired_evidence`), with the tests of `statistics`; `unpaired_rule` decides where newer versions
have another encoder, by an `arm_count`. `plans` are the pure steps from one plan to the next, `operator_steps` those of
an operator, and `change` writes them by compare and swap. `operator` has the commands of an operator, `alarms` what
fails now, `config` the settings.

Other rooms may use `controller`, `judge`, `decider`, `operator`, `config`, `plans` and `change`.
"""
