"""The model: a BERT-shaped encoder and a random-feature head, in full precision and as served in INT8 or INT4.

    config                 the shape of a model as one frozen record, with overrides for single layers
    plan, errors           the tensors and blocks that follow from a config; every error of this package
    source, published      finds an encoder's files; reads its config files: shape, pooling, prefix
    bert                   reads a BERT, RoBERTa or XLM-R into `Strata`, with the biases of its norms folded
    tokenizer, ragged      texts to token ids; batches of sequences without padding
    inputs                 the protocol of input codecs' tensors: values of an event as tokens, or part of its vector
    kinds                  the protocol of label kinds' tensors: labels to rows of a head, logits to predictions
    strata, head           the encoder and the head in full precision
    linears                the encoder's linear layers: with scaled inputs, a shared matrix, or a low-rank pair
    calibration            post-training quantization of an encoder: SmoothQuant's scales, INT4 alone
    nested, quantize       INT8 weights with INT4 weights inside; float weights to stored ones, also by GPTQ
    grid                   the values that a stored weight may have, and how training learns its scales
    qtensor, weights       a stored weight and its bytes; an encoder as stored weights, and back
    forward, quantized     runs the stored weights, natively or in torch; the model as served
    packed, encoders       the protocol of encoders and their families; finds a family by name
    strata_family          the built-in family
    heads                  the protocol of heads: computes weights from the sums over all labels
    fakequant              quantization-aware training with the rounding of the served kernels
    member                 a derived encoder of the built-in family as a folder (`lifelong.compress`)

    files --bert--> Strata --calibration, quantize--> QTensors --quantized--> logits

The learner trains `Strata` and ships QTensors; a replica runs a `QuantizedModel`. Other rooms import the files by name.
"""
