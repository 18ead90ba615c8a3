"""What an encoder's matrices see: second moments of their inputs over a few texts of many kinds.

    TEXTS --tokens--> Strata, whose products are listened to --> x x^T of every matrix
        --smooth--> its `in_scale`, and x x^T of what is scaled by that --> `feedback.round_planes`

Measured on MiniLM and CLINC150's test texts (mean and lowest cosine with full precision): INT8 as good with these texts
as with 300 of the data set's own. They are built in, so that an encoder is rounded before the first event was seen, and
always in the same way.

Shape suffixes: M tokens, K inputs.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.ragged import RaggedBatch
from model.strata import ScaledLinear, Strata, full_precision
from model.tokenizer import TextTokenizer

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
"""Mean squares below that count as this: of an input that is always 0, or that nothing reads."""


@torch.no_grad()
def grams(strata: Strata, tokenizer: TextTokenizer) -> dict[str, Tensor]:
    """Mean x x^T [K, K] of the inputs of every matrix of the blocks, by the name of its weight."""
    names = {id(module): name for name, module in strata.named_modules()}
    found: dict[str, Tensor] = {}

    def listen(x_MK: Tensor, layer: nn.Linear) -> Tensor:
        found[names[id(layer)]] = x_MK.t() @ x_MK / len(x_MK)
        return full_precision(x_MK, layer)

    batch = RaggedBatch.of([ids[: strata.config.max_pos] for ids in tokenizer.encode_many(TEXTS)])
    strata.forward_from(0, strata.encode_prefix(batch, 0), batch.layout, linear=listen)
    return found


@torch.no_grad()
def smooth(strata: Strata, grams: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sets every `in_scale` of `strata` for which there is a Gram matrix; returns those of the inputs as scaled.

    A few inputs that are larger than the others set the range in which their whole row is rounded. Weights are rounded
    row by row too, so both sides share the difference: SmoothQuant (Xiao et al., arXiv 2211.10438), equation 4 with a
    half for alpha, and root mean squares for maxima.
    """
    scaled = dict(grams)
    for name, gram_KK in grams.items():
        layer = strata.get_submodule(name)
        if isinstance(layer, ScaledLinear):
            in_scale_K = _shared(layer.weight, gram_KK)
            layer.in_scale.copy_(in_scale_K)
            scaled[name] = gram_KK * in_scale_K * in_scale_K[:, None]
    return scaled


def _shared(w_NK: Tensor, gram_KK: Tensor) -> Tensor:
    """in_scale_K, around 1: what makes inputs and weights about equally large at every input.

    Powers of two, which leave every bit of a weight where it is: one that was divided and multiplied again is the same.
    """
    ratio_K = w_NK.square().mean(dim=0).clamp(min=TINY) / gram_KK.diagonal().clamp(min=TINY)
    power_K = ratio_K.log2() / 4
    return torch.exp2(torch.round(power_K - power_K.mean()))
