"""From training states to a checkpoint folder in the original layout.

Flows in: a state file of `mini.training.train` and the vocabulary folder. Flows out: the folder that is checked in.
"""

from pathlib import Path
from typing import Any

import torch

from mini.language.vocabulary import Vocabulary
from mini.training.model import Dimensions, new_aligner, new_transcriber, save_original


def trained_model(state_path: Path, vocabulary: Vocabulary) -> tuple[Any, Dimensions]:
    """Return the native model with the weights of a training state, rounded to bfloat16, and its dimensions."""
    state = torch.load(state_path, weights_only=True)
    dims = Dimensions(**state["dimensions"])
    model: Any = new_aligner(dims, vocabulary) if dims.time_classes else new_transcriber(dims, vocabulary)
    model.load_state_dict({name: tensor.bfloat16().float() for name, tensor in state["model"].items()})
    return model.eval(), dims


def publish(state_path: Path, vocabulary_folder: Path, folder: Path) -> None:
    """Write the checkpoint folder of a training state."""
    vocabulary = Vocabulary.load(vocabulary_folder)
    model, dims = trained_model(state_path, vocabulary)
    save_original(model, dims, vocabulary, vocabulary_folder, folder)
