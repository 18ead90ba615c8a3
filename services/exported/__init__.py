"""A version as a folder: for other libraries, and for another service. `lifelong export` and `lifelong import --model`.

format.py      what the folder holds, and the version in it, read back and verified
exporting.py   writes the folder of a version of the store
card.py        its README.md: what the version is, how it was measured, and how it is loaded
onnx.py        the same model as a graph for ONNX Runtime
importing.py   puts the version of a folder into a store, under a new number
"""
