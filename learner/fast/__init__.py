"""The fast head: learns every label at once, in closed form, and can unlearn it exactly.

    head             the interface of heads, and the rows of their classes
    ridge            the ridge head: exact sums, solved by Cholesky
    gram             the largest of its sums, of products of features
    fast_head        an encoder with the ridge head and the class means under it
    renamed_sums     its sums under other names of the classes
    carry_over       what a fast head knows beyond the memory, on its way to the next encoder
    solver           the weights of a release, solved anew or updated
    own_head         a head of the user, which makes the weights of the sums in its place
    row_log          the samples since the last release
    base_solution    the solution that the next labels start from
    incremental      the solution after every label since, by a rank-k update
    row_scales       the factors of the rows of a head, by how many labels their classes have
    prototype        class means as rows of the head, while a class has few labels
    recent_labels    the newest labels of each class
    concept_changes  notices by them that a class means something else now
    fading           a head of the newest labels, and its share in the weights
    heirs            the class that the old texts of such a class belong to now

Samples are encoded, and their features enter the sums. From outside, `FastHead` is the way in; heads elsewhere
implement `OnlineClassifier`. A release takes the weights from the solver, in milliseconds:

    sums --NormalEquations--> BaseSolution, now and then --samples since, IncrementalHead--> solution
    solution, class means --blend--> weights
"""
