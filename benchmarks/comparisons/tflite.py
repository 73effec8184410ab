"""TFLite models that take a picture and a style code; only this module imports their runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mst_deploy.backends import Images
from mst_deploy.errors import InputError


class Model:
    """Function of frames (1, H, W, 3) uint8; memory is planned once per size, as for a video.

    The model gets float32 in 0..1. The style code is random: its values do not change the arithmetic. Raises
    InputError for a file that is not such a model.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            self.model = Interpreter(str(path), num_threads=threads)
        except ValueError as error:
            raise InputError(f"cannot load {path} as a TFLite model: {error}") from error
        inputs = self.model.get_input_details()
        pictures = [one["index"] for one in inputs if one["shape"][-1] == 3]
        if len(pictures) != 1:
            raise InputError(f"{path} takes {len(pictures)} pictures; wanted is a model of one")
        self.picture, self.result = pictures[0], self.model.get_output_details()[0]["index"]
        self.codes = [one for one in inputs if one["index"] != self.picture]
        self.prepared: tuple[int, ...] = ()

    def __call__(self, frames: Images) -> Images:
        if frames.shape != self.prepared:
            self._plan(frames.shape)
        self.model.set_tensor(self.picture, frames.astype(np.float32) / 255)
        self.model.invoke()
        return np.asarray((self.model.get_tensor(self.result) * 255).clip(0, 255).round(), np.uint8)

    def _plan(self, shape: tuple[int, ...]) -> None:
        self.model.resize_tensor_input(self.picture, shape)
        self.model.allocate_tensors()
        rng = np.random.default_rng(0)
        for code in self.codes:
            self.model.set_tensor(code["index"], rng.standard_normal(code["shape"], np.float32))
        self.prepared = shape
