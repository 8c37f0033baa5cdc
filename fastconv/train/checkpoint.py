"""Checkpoints: the ``.npz`` of a model, with a document of the training and the optimizer's arrays beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, FastconvError, ModelFormatError
from ..formats.npz import named, read
from ..formats.npz.archive import DOCUMENT, Archive
from ..formats.npz.write import describe, write
from .optimizers import OPTIMIZERS
from .trainer import Trainer

if TYPE_CHECKING:
    import os

    from .schedules import Schedule
    from .trainer import Loss

__all__ = ["load", "save"]

TRAINING = "training"  # the document, and before the names of arrays
VERSION = 1


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """See `Trainer.save`."""
    model, weights = describe(trainer.graph())
    document = {
        "version": VERSION,
        "loss": None if callable(trainer.loss) else trainer.loss,
        "optimizer": {"name": type(trainer.optimizer).__name__, **asdict(trainer.optimizer)},
        "schedule": trainer.schedule is not None,
        "frozen": trainer.frozen,
        "steps": trainer.steps,
        "epochs": trainer.epochs,
        "generator": trainer.rng.bit_generator.state,
        "state": {name: list(arrays) for name, arrays in trainer.state.items()},
    }
    text = np.frombuffer(json.dumps(document).encode("ascii"), np.uint8)
    state = {
        f"{TRAINING}/{place}/{key}": array
        for place, arrays in enumerate(trainer.state.values())
        for key, array in arrays.items()
    }
    clash = {TRAINING, *state} & weights.keys()
    if clash:
        raise ArgumentError(f"save: {min(clash)} is the name of a weight, which a checkpoint needs; rename its node")
    write(path, {DOCUMENT: model, TRAINING: text, **weights, **state})


def load(path: str | os.PathLike[str], loss: Loss | None, schedule: Schedule | None) -> Trainer:
    """See `Trainer.load`."""
    with named(path), Archive(path) as archive:
        if TRAINING not in archive.names or DOCUMENT not in archive.names:
            raise ModelFormatError("is no checkpoint; read a model with fastconv.load, and give it to Trainer")
        try:
            document = json.loads(archive.read(TRAINING).tobytes())
            return _restored(archive, document, loss, schedule)
        except FastconvError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFormatError(f"the checkpoint is damaged: {type(error).__name__}: {error}"[:300]) from None


def _restored(archive: Archive, document: Any, loss: Loss | None, schedule: Schedule | None) -> Trainer:
    if document["version"] != VERSION:
        raise ModelFormatError(f"the checkpoint has version {document['version']!r:.40}, {VERSION} is read")
    if document["loss"] is None and loss is None:
        raise ArgumentError("it was saved with a loss of your own; pass loss=")
    if document["schedule"] and schedule is None:
        raise ArgumentError("it was saved with a schedule; pass schedule=")
    settings = dict(document["optimizer"])
    optimizer = OPTIMIZERS[settings.pop("name")](**settings)
    state = {
        str(name): {str(key): archive.read(f"{TRAINING}/{place}/{key}") for key in keys}
        for place, (name, keys) in enumerate(document["state"].items())
    }
    archive.names = tuple([name for name in archive.names if name != TRAINING and not name.startswith(f"{TRAINING}/")])
    graph = read(archive, None, None, None)
    trainer = Trainer(
        graph, loss or document["loss"], optimizer, schedule=schedule, freeze=frozenset(document["frozen"])
    )
    for name, arrays in state.items():
        for key, array in arrays.items():
            if array.shape != (() if key == "step" else trainer.parameters[name].shape):
                raise ModelFormatError(f"{key} of {name} has shape {array.shape}, which is not the weight's")
    trainer.state = state
    trainer.steps, trainer.epochs = int(document["steps"]), int(document["epochs"])
    trainer.rng.bit_generator.state = document["generator"]
    return trainer
