"""Makes a model as a learner publishes it and a replica runs it, of an encoder and labelled texts."""

from collections.abc import Sequence

from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.export import export_head
from learner.fast.fast_head import FastHead
from learner.learner import Learner
from learner.memory.replay import Labelled
from model.quantized import QuantizedEncoder, QuantizedModel
from model.strata import Strata
from model.tokenizer import TextTokenizer


def served_model(strata: Strata, tokenizer: TextTokenizer, train: Sequence[StreamItem]) -> QuantizedModel:
    """Returns the encoder as it is, and a closed-form head of all texts, quantized."""
    config = LearnerConfig(trainable_layers=0)
    served = Learner(config, strata, tokenizer).fast_head.served
    head = FastHead(served, penalty=config.ridge)
    head.admit_all(sorted({item.label for item in train}))
    head.relearn([Labelled(item.text, item.label) for item in train])
    tensors = {name: stored.tensor for name, stored in served.tensors.items()}
    out = export_head(served.config, head.solve(), temperature=1.0)
    return QuantizedModel(QuantizedEncoder.from_tensors(served.config, tensors), served.head(out), head.ridge.classes)
