"""Token ids keep modality, place and code, and JSON keeps token ids."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.media.tokens import (
    CODE,
    LEVELS,
    MODALITIES,
    VOCAB,
    level_values,
    pack,
    token_codes,
    token_modalities,
    token_places,
)


@given(st.sampled_from(sorted(MODALITIES)), st.data())
def test_ids_give_back_what_they_were_packed_from(name: str, data: st.DataObject) -> None:
    modality = MODALITIES[name]
    drawn = data.draw(arrays("uint8", (2, modality.places, CODE), elements=st.integers(0, LEVELS - 1)))
    codes_BPC = torch.from_numpy(drawn)
    ids = pack(modality, codes_BPC)
    assert ids.shape == (2, 1 + modality.places)
    assert int(ids.min()) >= 1 << 51 and int(ids.max()) < VOCAB < 1 << 53
    assert (token_modalities(ids) == modality.number).all()
    assert (token_places(ids) == torch.arange(1 + modality.places)).all()
    for row, part in enumerate(ids):
        assert torch.equal(token_codes(part)[1:], codes_BPC[row].long())
        # The bottleneck token has no code.
        assert not token_codes(part)[0].any()


def test_levels_are_spread_evenly() -> None:
    values = level_values(torch.arange(LEVELS))
    assert values[0] == -1 and values[-1] == 1
    assert torch.allclose(values.diff(), torch.tensor(2 / 15))
