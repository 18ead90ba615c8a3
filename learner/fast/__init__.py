"""The fast head: learns every label at once, in closed form, and can unlearn it exactly.

    fast_head     an encoder with the ridge head and the class means under it; the heirs of a class that has changed
    rows          which class has a row, its entries, its mean direction, its factor and its prototype
    ridge         the ridge head: exact sums, solved by Cholesky; the same sums under other names of the classes
    solver        the weights of a release: solved anew, or updated by the samples since
    recency       the newest labels of each class, and a head of them with its share in the weights

Samples are encoded, and their features enter the sums. From outside, `FastHead` is the way in; heads elsewhere
implement `OnlineClassifier`. A release takes the weights from the solver, in milliseconds:

    sums --NormalEquations--> BaseSolution, now and then --samples since, IncrementalHead--> solution
    solution, class means, newest labels --blend--> weights
"""
