"""Labels: from two Kafka topics to trusted samples, and what is measured on the way.

    consumer        answers and labels from the topics; flow pauses the topic that is far ahead
    join            joins each answer with its label, in two windows bounded in bytes (window, join_state)
    sample          the joined sample, and the part of an answer that waits for it
    trust           whether a label is trusted; flip_detector finds label flips, by CUSUM charts (cusum)
    suspects        labels that were trusted and contradict their answers: a flip alarm withdraws those behind it
    labelled_events the events that have a label: another one is a duplicate, or a correction
    label_names     translates labels and answers under older names; says which labels are not in the set
    outcomes        counts what became of the labels
    late_labels     hold the labels whose answers wait no longer, in memory or by their places in the topic
    answer_finder   finds these answers in their topic, so that their labels are learnt
    letters         dead letters and quarantined labels, sent at least once
    label_traces    the spans of labels, up to a version that knows them
    classes         which classes have a row of the head
    prequential     accuracy of the served answers; drift detects that it falls, or that texts change

`Consumer.poll` reads records, `Join.match` makes samples of them and asks `LabelTrust`, and the learner scores the
samples and learns them. From outside, the learner owns one object of each kind, and the checkpoint holds the state of
each.
"""
