"""The model: a BERT-shaped encoder and a random-feature head, in full precision and as served in INT8 or INT4.

    config                 the shape of a model as one frozen record, and what may be special about a layer
    plan, errors           the tensors and blocks that follow from a config; every error of this package
    source, published      finds an encoder's files; what they say: shape, pooling, prefix
    bert                   reads a BERT, RoBERTa or XLM-R into `Strata`, with the biases of its norms folded
    tokenizer, ragged      texts to token ids; batches of sequences without padding
    features               the numbers and categories of an event as part of its vector
    kinds                  what the labels of each kind say of the rows of a head, and logits of labels
    strata, head           the encoder and the head in full precision
    linears                the linear layers of the encoder, tied or in pairs
    calibration            rounds an encoder by the second moments of its activations: SmoothQuant's scales, INT4 alone
    nested, quantize       INT8 weights with INT4 weights inside; float weights to stored ones, also by GPTQ
    grid                   the values that a weight may have, and how training moves them
    qtensor, weights       a stored weight and its bytes; an encoder as stored weights, and back
    forward, quantized     runs the stored weights, natively or in torch; the model as served
    packed, encoders       the door to encoders: what is asked of any of them, and of their families, found by name
    strata_family          the built-in family
    heads                  the door to heads: what makes weights of the sums of all labels
    fakequant              training against the rounding of the served kernels
    member                 an encoder of the family as a folder; `lifelong.compress` makes smaller ones

    files --bert--> Strata --calibration, quantize--> QTensors --quantized--> logits

The learner trains `Strata` and ships QTensors; a replica runs a `QuantizedModel`. Both import the files by name. Names
that begin with an underscore belong to their file.
"""
