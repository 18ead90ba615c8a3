"""Makes a model as a learner publishes it and a replica runs it, of an encoder and labelled texts."""

from collections.abc import Sequence

from evals.ledger.tasks import closed_form_head, served_by
from evals.streams.stream import StreamItem
from learner.encoder.served import ServedEncoder, export_head
from learner.fast.fast_head import FastHead
from model.module_code import built_in
from model.quantized import QuantizedEncoder, QuantizedModel
from model.strata import Strata
from model.tokenizer import TextTokenizer


def served_model(strata: Strata, tokenizer: TextTokenizer, train: Sequence[StreamItem]) -> QuantizedModel:
    """Returns the encoder as it is, and a closed-form head of all texts, quantized."""
    served = served_by(strata, tokenizer)
    return model_with(served, closed_form_head(served, sorted({item.label for item in train}), train))


def model_with(served: ServedEncoder, head: FastHead) -> QuantizedModel:
    """Returns the encoder and a head of the learner, quantized."""
    tensors = {name: stored.tensor for name, stored in served.tensors.items()}
    out = export_head(served.config, head.solve(), temperature=1.0)
    encoder = QuantizedEncoder.from_tensors(built_in(served.config), tensors)
    return QuantizedModel(encoder, served.head(out), head.ridge.classes)
