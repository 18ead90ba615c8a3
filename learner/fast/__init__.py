"""The fast head: learns every label at once, in closed form, and can unlearn it exactly.

    fast_head     the ridge head and the class means under one encoder; the successor of a class that has changed
    rows          the rows of the classes: entries, class means, scale factors, prototypes
    ridge         the ridge head: exact sums, solved by Cholesky; renaming of classes
    solver        the weights of a version: solved from the sums, or updated by the samples since
    recency       the newest labels of each class, and a second head of them that is blended into the weights

Samples are encoded, and their features are added to the sums. `FastHead` is the entry point; other heads implement
`OnlineClassifier`. The solver makes the weights of a version in milliseconds:

    sums --NormalEquations, solved from time to time--> BaseSolution
    BaseSolution --IncrementalHead, updated by the samples since--> solution
    solution, class means, newest labels --blend--> weights
"""
