"""The operations of the quantized encoder: tensors in, tensors out. This package imports no other room.

    attention, attention_i8   self-attention of ragged sequences, in float32 and in 8-bit integers
    linear_i8, linear_i4      a linear layer with INT8 or INT4 weights and 8-bit activations
    conv2d                    a 3 x 3 convolution of images, in float32 for training and in INT8
    sparse_i8                 the INT8 linear layer for weights of which most blocks are zero
    encoder                   a whole encoder in one native call
    native                    builds and loads the C sources in `native/source`, one table for each instruction set
    dispatch                  chooses an implementation: the first that can run, or the fastest measured one
    allocator                 settings of malloc, and memory in huge pages

Every operation is a package with one file for each implementation: `reference` (the definition, in plain torch),
`library` (operations that torch ships; for INT4 in the `__init__`) and `native` (our C). The `__init__` checks the
arguments and chooses the implementation. All implementations of an integer operation give the same bits. Callers use
only the names that a package exports.
"""
