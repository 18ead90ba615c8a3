"""The fast head: learns every label at once, in closed form, and can unlearn it exactly.

    head             the interface of heads, and the rows of their classes
    ridge            the ridge head: exact sums, solved by Cholesky
    fast_head        an encoder with the ridge head and the class means under it
    carry_over       what a fast head knows beyond the memory, on its way to the next encoder
    base_solution    the solution that the next labels start from
    incremental      the weights after every label since, by a rank-k update
    prototype        class means as rows of the head, while a class has few labels
    row_delta        which rows have changed, and their INT8 codes

Samples are encoded, their features enter the sums, and a release solves the sums for the weights. From outside,
`FastHead` is the way in; heads elsewhere implement `Head`. The last four make the same weights in milliseconds:

    labels --IncrementalHead--> weights --Prototypes.blend--> rows --row_delta--> RowDelta
    sums --solve_base--> BaseSolution, every MAX_ROWS labels at the latest
"""
