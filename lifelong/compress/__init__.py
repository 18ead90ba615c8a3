"""Turns an encoder into a smaller member of the family: by arithmetic, and then by distillation from the original.

    reshape    longer positions, a narrow token embedding, and keys and values of neighbouring heads as one
    share      layers that use the same matrices, with a low-rank addition for each: depth tying
    heads      which heads matter, over several tasks (needs labelled texts), and the others are removed for good
    spans      the spans of keys that are enough for each head (needs texts), and from which length on they are faster
    plain      the way back: the plain encoder that computes the same, also as published files and for other runtimes
    distillation    an encoder learns, on texts without labels, to compute what another one does
    cost       parameters, bytes and operations of a config, counted

    dense encoder --factorise, pool, share, prune--> smaller encoder --distillation--> as good as before

What these functions return computes nearly the same (exactly, at full rank, and where unused heads are removed). A
short distillation makes up for the rest. All are made anew by `model.strata.rebuilt`.
"""
