"""Sequential tests: each may be looked at after every observation, and is wrong with a probability that is known.

Each function returns the logarithm of an e-value E: a hypothesis that holds lets E reach 1 / error with probability
`error` at most, whenever and however often it is looked at (Ville's inequality).

`betting` is the test that most others are made of, and so is `confidence_sequence`, the bounds of a share. `paired`
compares two versions by the events that both answered, `sources` does so with one value for each source of labels, and
`e_detector` notices that a version turned bad. `health` tests errors and latency, `sample_ratio` the routing.
`clopper_pearson` bounds a share, and is the only one that is for one look.
"""
