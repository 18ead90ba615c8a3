"""Decides which version answers which share of the traffic: one version is judged at a time, the newest ones follow.

    notice of a version -> controller --.
    answers, labels -> judge -> decider -+-> plans.change -> RolloutPlan, in Redis

`controller` leads under a lease, lets the newest arm follow the learner, makes stable what its manifest has the grounds
for by the `publication_rule`, and collects old versions. `judge` reads the topics in a thread, and `decider` turns what
it reads into decisions:

- `label_join` finds the verdicts that a label is about, in its receipt or in the answer that waited for it, and bounds
  how many labels of a source count; `judged_events` know which label an event has.
- `tallies` add the labels up for each pair of versions, each a `comparison` in which no source decides alone.
- `due_step` asks one question after another which step of the plan follows. `paired_rule` decides by labelled events
  that both versions named, with the tests of `statistics`; `unpaired_rule` decides if newer versions have another
  encoder.
- `plans` are the pure steps from one plan to the next, and write them by compare and swap; `operator` has the commands
  and the steps of an operator.
- `reports` measure how soon labels and plans reach the answers, and how many of an arm's answers are right. `alarms`
  says what fails now, `config` has the settings.

Other rooms may use `controller`, `judge`, `decider`, `operator`, `config` and `plans`.
"""
