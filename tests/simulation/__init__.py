"""The simulator: learner, replicas, controller, judge, broker and store in one process, on one clock, by one seed."""
