"""The fast head: learns every label at once, in closed form, and can unlearn it exactly.

    head        the interface of heads, and the rows of their classes
    ridge       the ridge head: exact sums, solved by Cholesky
    fast_head   an encoder with the ridge head and the class means under it

Samples are encoded, their features enter the sums, and a release solves the sums for the weights. From outside,
`FastHead` is the way in; heads elsewhere implement `Head`.
"""
