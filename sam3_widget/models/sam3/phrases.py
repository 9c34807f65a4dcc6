"""The text side of SAM 3: phrases become features once, and are remembered."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

from sam3_widget.errors import InvalidPromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase, Sam3Model

MOST_PHRASES = 256
WITHOUT_TEXT = "visual"
"""The phrase that SAM 3 was trained to read where exemplars alone say what is meant."""


class Phrases:
    """Features of phrases; the ones used longest ago are forgotten first.

    Parameters
    ----------
    model : Sam3Model
        Whose text encoder reads them.
    tokenizer : PreTrainedTokenizerBase
    most : int
        How many phrases are remembered.
    """

    def __init__(self, model: Sam3Model, tokenizer: PreTrainedTokenizerBase, most: int = MOST_PHRASES) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._length: int = model.text_encoder.config.max_position_embeddings
        self._most = most
        self._known: OrderedDict[str, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of these phrases, "" standing for none.

        Returns
        -------
        features : (N, L, C)
        mask : (N, L) int64
            1 where there is a token, 0 where there is padding.

        Raises
        ------
        InvalidPromptError
            A phrase is longer than the text encoder reads.
        """
        features, masks = zip(*[self._features(text.strip() or WITHOUT_TEXT) for text in texts], strict=True)
        return torch.cat(features), torch.cat(masks)

    def _features(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (1, L, C) features and the (1, L) mask of a phrase."""
        if text not in self._known:
            tokens = {name: ids.to(self._model.device) for name, ids in self._tokenize(text).items()}
            self._known[text] = (self._model.get_text_features(**tokens).pooler_output, tokens["attention_mask"])
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(text)
        return self._known[text]

    def _tokenize(self, text: str) -> dict[str, torch.Tensor]:
        """Return the (1, L) ``input_ids`` and ``attention_mask`` of a phrase."""
        tokens = self._tokenizer(text, padding="max_length", max_length=self._length, return_tensors="pt")
        count = tokens["input_ids"].shape[1]
        if count > self._length:
            message = (
                f"the text is too long: {text!r} makes {count} tokens, start and end included, "
                f"expected at most {self._length}; use a short noun phrase"
            )
            raise InvalidPromptError(message)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}
