"""The model: a transformer encoder and a random-feature head, in full precision and as served in INT8 or INT4.

    config                 the shape of a model (sizes of all layers) as one frozen record
    plan, errors           the tensors and blocks that follow from a config; every error of this package
    source, published      finds an encoder's files; reads its config files: shape, pooling, prefix
    architectures          BERT, RoBERTa, XLM-R, ModernBERT, Gemma, EuroBERT: their configs and names of weights
    bert                   reads a published encoder into `Strata`, with the biases of its norms folded
    tokenizer, ragged      texts to token ids; batches of sequences without padding
    inputs                 how values other than texts (numbers, series) become tokens, or a part of an event's vector
    kinds                  how labels of each kind become rows of a head, and how logits become predictions
    strata, head           the encoder and the head in full precision
    linears                the encoder's linear layers: with scaled inputs, a shared matrix, or a low-rank pair
    calibration            post-training quantization of an encoder: SmoothQuant's scales, INT4 alone
    nested, quantize       INT8 weights with INT4 weights inside; quantizes float weights, also by GPTQ
    grid                   the values to which a weight may be rounded, and how training learns the scales
    qtensor, weights       a quantized weight and its bytes; an encoder as quantized weights, and back
    forward, quantized     runs the quantized weights, natively or in torch; the model as served
    packed, encoders       the protocol of encoders and their families; finds a family by name
    strata_family          the built-in family
    static, rung           the families of tables of token vectors, alone and beside an encoder
    heads                  the protocol of heads: computes weights from the sums over all labels
    fakequant              quantization-aware training with the rounding of the served kernels
    member                 a derived encoder of the built-in family as a folder (`lifelong.compress`)

    files --bert--> Strata --calibration, quantize--> QTensors --quantized--> logits

`Strata` is the built-in encoder in full precision. The learner trains it, and sends its weights as QTensors. A replica
runs a `QuantizedModel`. Other packages import these modules by name.
"""
