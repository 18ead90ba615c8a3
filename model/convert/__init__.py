"""Turns an encoder into another member of the family, by arithmetic alone: no texts are needed, and nothing is trained.

    reshape    longer positions, a narrow token embedding, and keys and values of neighbouring heads as one
    share      layers that use the same matrices, with a low-rank addition for each: depth tying
    heads      which heads matter, over several tasks (needs labelled texts), and the others are removed for good
    spans      the spans of keys that are enough for each head (needs texts), and from which length on they are faster
    plain      the way back: the plain encoder that computes the same, also as published files and for other runtimes

    dense encoder --factorise, pool, share, prune--> smaller encoder --learner.distillation--> as good as before

What these functions return computes nearly the same (exactly, at full rank, and where unused heads are removed). A
short distillation (`learner.distillation`) makes up for the rest. All are made anew by `model.strata.rebuilt`.
"""
