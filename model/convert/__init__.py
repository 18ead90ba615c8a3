"""Turns an encoder into another member of the family, by arithmetic alone: no texts are needed, and nothing is trained.

    lowrank       the best matrices of a low rank, which everything below is made of
    rebuild       a new encoder from a config and tensors by name
    share         layers that use the same matrices, with a low-rank addition for each: depth tying
    grouping      keys and values of neighbouring heads become one: grouped-query attention
    embedding     a narrow token embedding and a matrix that widens it
    positions     learned positions are repeated, for longer texts
    heads         heads are removed for good
    importance    which heads matter, over several tasks: needs labelled texts
    entropy       how many keys heads look at, and the spans that are enough for them: needs texts
    crossover     from which length on a span is faster than all keys, on this machine
    dense         the plain encoder that computes the same: the way back
    publish       a plain encoder as the files of a published one
    padded        a plain encoder over padded texts, for other runtimes

    dense encoder --factorise, pool, share, prune--> smaller encoder --learner.distill--> as good as before

What these functions return computes nearly the same (exactly, at full rank, and where unused heads are removed). A
short distillation (`learner.distill`) makes up for the rest.
"""
