"""Imports labelled history for the learner: texts with known labels, from a file or standard input.

    rows of JSON, CSV, Parquet --> labelled text, or a reason --> approved (signed with our key) --> feedback.v1
                                          |                                                             |
                                          '--> refused rows, by reason         bookmark: rows sent <----'

`labeller` reads files and turns a row into a label with its text. `sending` sends the labels, and keeps a bookmark of
the rows that were sent. A row without an id gets the digest of its text as its id, so a row that is sent twice is
learnt once. The labels are approved by the operator, so the limits on sources do not apply to them.
"""
