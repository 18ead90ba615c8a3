"""The data sets, divided into stages.

stream.py     Stage: training and test items of the same classes; Stream: stages of texts, which the demo plays
arrivals.py   other orders of the items: without pauses, with recurring classes, with names that change
benchmark.py  Benchmark: stages of inputs with class ids (Part)
data.py       loads a Stream: the bundled data set, CLINC150, or a folder of JSON lines
text_sets.py  TextSet: one task of several, with training and test items, whole or truncated
images.py     MNIST as two benchmarks       tabular.py    Elec2 and weather, one benchmark each
"""
