"""Decides which version answers which share of the traffic.

    notice of a version -> controller --.
    answers, labels -> judge -> decider -+-> plans.change -> RolloutPlan, in Redis

The traffic has at most three arms: `stable` has most of it, `candidate` has the version that is on trial, and `newest`
always has the learner's newest version. One candidate is on trial at a time.

The `controller` leads while it holds a lease. It gives the newest arm each version that the learner publishes, makes a
version stable at once if the numbers in its manifest pass the `publication_rule`, and deletes old versions. The `judge`
reads answers and labels in a thread. The `decider` turns these records into decisions:

- `label_join` finds the predictions that a label judges, in the label's receipt or in the answer that waited for the
  label. It also limits how many labels of one source count. `judged_events` remembers which label each event has.
- `tallies` counts wins, ties and losses for each pair of versions. A `comparison` of a pair is never decided by one
  source of labels alone.
- `due_step` chooses the next step of the plan. `paired_rule` compares two versions on the labelled events for which
  both made a prediction, with the tests of `statistics`. If newer versions have another encoder, `unpaired_rule`
  compares the arms, each by its own answers.
- `plans` has pure functions, each of which makes the next plan from the present one, and writes the result by compare
  and swap. `operator` has the operator's commands and their steps.
- `reports` measures how soon labels and plans take effect, and how accurate each arm is. `alarms` has the present
  failures, and `config` the settings.

Other rooms may use `controller`, `judge`, `decider`, `operator`, `config` and `plans`.
"""
