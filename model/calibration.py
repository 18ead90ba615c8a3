"""Post-training quantization of a whole encoder. It is calibrated by the second moments of each matrix's inputs.

    TEXTS --tokenizer--> Strata, whose matrices record their inputs --grams--> the Gram matrix x x^T of every matrix
        --smooth--> `in_scale`, and x x^T of the scaled inputs --encoder_tensors, GPTQ--> n8g64: INT8 with INT4 inside
        --to_int4, GPTQ--> Strata on grids --encoder_tensors--> w4g64: INT4 alone, token embeddings included

The calibration texts (TEXTS) are built in. So an encoder can be quantized before the first event arrives, and the
result is always the same. Measured on MiniLM with CLINC150's test texts, by the mean and the lowest cosine with full
precision: INT8 is as good with these texts as with 300 texts of the data set.

`to_int4` replaces the weights of the encoder by the rounded values, so training can continue from these with the same
rounding (`model.fakequant`). Norms and biases stay in full precision. Position embeddings stay in INT8, and so does a
matrix whose number of inputs is not a multiple of 64. In MiniLM these are 3 % of the bytes. Embeddings have no inputs
by which GPTQ could weight errors, so they are rounded to the smallest squared error of each group. They are not trained
either (`trainable`), since a step would change every row of the vocabulary.

Measured for INT4 on CLINC150's validation texts. The head was fitted in full precision:

    rounding                            mean cosine with full precision    lost points of accuracy
    one scale for each row              0.910                              1.3
    the smallest error of each group    0.959                              0.6
    GPTQ                                0.978                              0.2

With scaled inputs (SmoothQuant), the cosine of GPTQ is 0.976: scales that make inputs easier to round make INT4 weights
harder to round.

Shape suffixes: M tokens, K inputs, N outputs.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from kernels.linear_i4.reference import GROUP
from model.grid import Grid, attach_grids, find_grid
from model.linears import ScaledLinear, full_precision
from model.packed import Inputs
from model.plan import build_plan
from model.qtensor import N8G64
from model.quantize import quantize_w4g64
from model.ragged import RaggedBatch
from model.strata import Strata
from model.weights import encoder_names, encoder_tensors

TEXTS = (
    "how much money is left on my card",
    "please wake me up at seven tomorrow morning",
    "Das Paket ist noch nicht angekommen.",
    "?",
    "thanks",
    "yes, that is right",
    "no",
    "hello there, who are you",
    "I was charged twice for the same order and nobody answers my mails.",
    "The app crashes whenever I open the settings on my phone.",
    "what's the weather like in Madrid this weekend",
    "Cancel my subscription, please!",
    'can you translate "good evening" into Japanese',
    "My flight was delayed by five hours; am I entitled to compensation?",
    "add milk, eggs and bread to the shopping list",
    "The delivery arrived, but two of the three items were broken.",
    "play something quiet",
    "How do I reset my password?",
    "It does not work.",
    "The quarterly report shows that revenue grew by 12 % while costs fell slightly.",
    "remind me to call mum on 24 December at 18:30",
    "who won the game last night",
    "turn the lights off in the kitchen",
    "I'd like to change the address for order 4711-B.",
    "Où est ma commande ?",
    "¿Puedo pagar en efectivo?",
    "Wie lange habt ihr am Samstag geöffnet?",
    "what is the capital of Australia, and how many people live there",
    "I love this, it's the best thing I have bought in years",
    "terrible service, I will never come back",
    "Is there a vegetarian restaurant near the station that is open now?",
    "split the bill between four of us",
    "my account has been locked after too many attempts",
    "Could you explain the difference between a debit and a credit card?",
    "The temperature sensor in room 12 reports values far above the limit.",
    "set a timer for ten minutes",
    "book a table for two at eight",
    "ERROR 503: service unavailable",
    "When does the museum close, and do students pay less?",
    "He said that she would come, but she did not.",
    "the battery drains in two hours even if I do nothing",
    "transfer 250 euros from savings to checking",
    "are you a human",
    "what did you say",
    "Please send the invoice to accounting@example.com.",
    "tell me a joke about computers",
    "how many calories are there in a banana",
    "The new version fixes several bugs and improves the start-up time.",
    "find the cheapest flight from Oslo to Rome in March",
    "I think I left my umbrella on the bus this morning",
    "what time is it in Tokyo",
    "The patient complains about headaches and a slight fever since Tuesday.",
    "stop",
    "Where can I see my past payments?",
    "my daughter is allergic to nuts, which of the dishes are safe",
    "why is the sky blue",
    "the size is too small, I want to exchange it for a larger one",
    "spell the word necessary",
    "Do I need a visa to visit Brazil?",
    "that was not what I asked for",
    "the train to Geneva leaves from platform three",
    "we should meet next week to discuss the contract",
    "ok",
    "Good morning, I have a question about my insurance.",
)


TINY = 1e-12
"""The lower bound of a mean square, which is 0 if an input is always 0, or if no output uses it."""


@torch.no_grad()
def grams(strata: Strata, tokenizer: Inputs) -> dict[str, Tensor]:
    """Measures the Gram matrix of the inputs of each matrix of the blocks, on the built-in texts; returns them by name.

    A Gram matrix is the mean of x x^T [K, K] over the inputs x. If several layers use a matrix, the inputs of all these
    layers count.
    """
    matrices = build_plan(strata.config).matrices
    names = {id(strata.get_submodule(matrix.path)): matrix.name for matrix in matrices}
    num_uses = Counter(matrix.name for matrix in matrices)
    gram_by_name: dict[str, Tensor] = {}

    def recording(x_MK: Tensor, layer: nn.Linear) -> Tensor:
        # The matrices of low-rank pairs have no name here: they are not rounded by GPTQ.
        name = names.get(id(layer))
        if name is not None:
            gram_KK = x_MK.t() @ x_MK / (len(x_MK) * num_uses[name])
            gram_by_name[name] = gram_by_name[name] + gram_KK if name in gram_by_name else gram_KK
        return full_precision(x_MK, layer)

    batch = RaggedBatch.of([ids[: strata.config.max_sequence] for ids in tokenizer.encode_many(TEXTS)])
    strata.forward_from(0, strata.encode_prefix(batch, 0), batch.layout, linear=recording)
    return gram_by_name


@torch.no_grad()
def smooth(strata: Strata, grams: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Chooses the input scales (`in_scale`) of the layers in `grams`, except layers with a grid.

    Returns the Gram matrices of the scaled inputs. A few outlier inputs set the range in which their whole row is
    quantized. So part of the outliers' magnitude is moved into the weights, which are quantized row by row, too. This
    is SmoothQuant (Xiao et al., arXiv 2211.10438), equation 4 with alpha = 1/2, and with root mean squares in place of
    maxima.
    """
    scaled = dict(grams)
    for name, gram_KK in grams.items():
        layer = strata.get_submodule(name)
        if isinstance(layer, ScaledLinear) and find_grid(layer) is None:
            in_scale_K = _smoothing_scale(layer.weight, gram_KK)
            layer.in_scale.copy_(in_scale_K)
            scaled[name] = gram_KK * in_scale_K * in_scale_K[:, None]
    return scaled


def _smoothing_scale(w_NK: Tensor, gram_KK: Tensor) -> Tensor:
    """Returns in_scale_K, around 1, so that at every input the scaled inputs and the weights are about equally large.

    The scales are powers of two. So a weight that is divided by its scale and then multiplied again has the same bits.
    """
    ratio_K = w_NK.square().mean(dim=0).clamp(min=TINY) / gram_KK.diagonal().clamp(min=TINY)
    exponent_K = ratio_K.log2() / 4
    return torch.exp2(torch.round(exponent_K - exponent_K.mean()))


WORD = "embed.word"


def to_nested(strata: Strata) -> Strata:
    """Returns a copy of the encoder whose matrices have grids (`model.grid`) for INT8 with INT4 inside.

    The weights are the same; training then rounds them to the grids. Raises NonFinite.
    """
    nested = copy.deepcopy(strata)
    attach_grids(nested, encoder_tensors(nested))
    return nested


@torch.no_grad()
def to_int4(strata: Strata, grams: Mapping[str, Tensor] = MappingProxyType({})) -> Strata:
    """Returns a copy of the encoder that is rounded to INT4 alone (`w4g64`). Raises NonFinite.

    If `grams` has the Gram matrix of a matrix's inputs, the matrix is rounded by GPTQ. Any other weight is rounded to
    the smallest squared error. Inputs are not scaled.
    """
    int4 = copy.deepcopy(strata)
    for name, module in int4_modules(int4).items():
        stored = quantize_w4g64(name, module.weight, gram_KK=grams.get(name))
        if isinstance(module, ScaledLinear):
            module.in_scale.fill_(1.0)
        module.weight.copy_(stored.dequantize())
        module.grid = Grid.from_tensor(stored)
    return int4


def trainable(strata: Strata) -> dict[str, nn.Parameter]:
    """Returns the parameters that training may change, by name: those with a gradient, but no embeddings on a grid."""
    is_fixed = find_grid(strata.embed.word) is not None
    parameters = {name: value for name, value in strata.named_parameters() if value.requires_grad}
    return {name: value for name, value in parameters.items() if not (is_fixed and name.startswith(f"{WORD}."))}


def int4_modules(strata: Strata) -> dict[str, nn.Linear | nn.Embedding]:
    """Returns the modules whose weights can be INT4, by name: matrices and token embeddings with whole groups of 64."""
    modules: dict[str, nn.Linear | nn.Embedding] = {}
    for name, (scheme, shape) in encoder_names(strata.config).items():
        if scheme == N8G64 or (name == WORD and shape[1] % GROUP == 0):
            module = strata.get_submodule(name)
            assert isinstance(module, nn.Linear | nn.Embedding)
            modules[name] = module
    return modules
