"""Labelled history for the learner: texts whose labels are known already, from a file or the input of the command.

    rows of JSON, CSV, Parquet --> labelled text, or why not --> approved (signed with our key) --> feedback.v1
                                          |                                                             |
                                          '--> refused rows, by reason         bookmark: rows sent <----'

`labeller` reads files and makes a label of a row; `sending` sends it, and remembers how far a file was sent. A row
without an id gets the digest of its text as one, so whatever is sent twice is learnt once. An operator vouches for the
file, so no limit on sources holds its labels.
"""
