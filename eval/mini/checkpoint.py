"""From training states to a checkpoint folder in the original layout.

Flows in: one or more state files of `mini.train` and the vocabulary folder. Flows out: the folder that is checked in.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mini.model import Dimensions, new_aligner, new_transcriber, save_original
from mini.vocabulary import Vocabulary


def mean_model(state_paths: Sequence[Path], vocabulary: Vocabulary) -> tuple[Any, Dimensions]:
    """Return the native model with the mean weights of the states, rounded to bfloat16, and its dimensions."""
    states = [torch.load(path, weights_only=True) for path in state_paths]
    dims = Dimensions(**states[0]["dimensions"])
    model: Any = new_aligner(dims, vocabulary) if dims.time_classes else new_transcriber(dims, vocabulary)
    mean = {name: torch.stack([state["model"][name] for state in states]).mean(0) for name in states[0]["model"]}
    model.load_state_dict({name: tensor.bfloat16().float() for name, tensor in mean.items()})
    return model.eval(), dims


def publish(state_paths: Sequence[Path], vocabulary_folder: Path, folder: Path) -> None:
    """Write the checkpoint folder of one training state, or of the mean of several."""
    vocabulary = Vocabulary.load(vocabulary_folder)
    model, dims = mean_model(state_paths, vocabulary)
    save_original(model, dims, vocabulary, vocabulary_folder, folder)
