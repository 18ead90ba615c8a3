"""The data sets, cut into stages.

stream.py     Stage: the training and the test items of one time; Stream: stages of texts, which the demo plays
arrivals.py   other orders of its items: without pauses, classes that keep coming, names that change
benchmark.py  Benchmark: stages of inputs with class ids (Part)
data.py       loads a Stream: the carried data set, CLINC150, or a folder of lines
text_sets.py  TextSet: a task among others, with training and test items, whole or cut
images.py     MNIST as two benchmarks       tabular.py    Elec2 and the weather as one each
"""
