"""Decides which version answers which share of the traffic.

    notice of a version -> controller --.
    answers, labels -> judge -> decider -+-> plans.change -> RolloutPlan, in Redis

One candidate is judged at a time, and the newest versions follow it. The `controller` leads under a lease. It lets the
newest arm follow the learner, makes a version stable if the numbers in its manifest pass the `publication_rule`, and
collects old versions. The `judge` reads the topics in a thread, and the `decider` turns the records into decisions:

- `label_join` finds the predictions that a label judges, in the label's receipt or in the answer that waited for the
  label. It also bounds how many labels of one source count. `judged_events` remembers which label each event has.
- `tallies` adds up the labels for each pair of versions. A pair is a `comparison`, in which no source decides alone.
- `due_step` chooses the next step of the plan. `paired_rule` compares two versions on the labelled events that both
  have answered, with the tests of `statistics`. `unpaired_rule` compares arms if newer versions have another encoder.
- `plans` has the pure steps from one plan to the next, and writes them by compare and swap. `operator` has the
  operator's commands and steps.
- `reports` measures how soon labels and plans take effect, and how accurate each arm is. `alarms` holds the present
  failures, and `config` the settings.

Other rooms may use `controller`, `judge`, `decider`, `operator`, `config` and `plans`.
"""
