"""The commands ``mst train ...``."""

from __future__ import annotations

from mst_deploy.cli.options import QuietOptions, requires
from mst_deploy.training.options import (
    ClassifyOptions,
    EncoderOptions,
    FinetuneArtifactsOptions,
    JointOptions,
    TrainOptions,
)


def train_classify(options: ClassifyOptions, messages: QuietOptions) -> None:
    """Train Inception to classify paintings by art movement, the folders below --style: the first phase."""
    with requires("train", "mst train"):
        from mst_deploy.training import command
    command.classify(options, messages.reporter())


def train_joint(options: JointOptions, messages: QuietOptions) -> None:
    """Train generator and style encoder together. The run in the folder -o is continued if there is one.

    On several GPUs: torchrun --nproc-per-node 4 -m mst_deploy train joint ...
    """
    _train("joint", options, messages)


def train_encoder(options: EncoderOptions, messages: QuietOptions) -> None:
    """Fine-tune the whole style encoder with the generator frozen: the second phase."""
    _train("encoder", options, messages)


def train_finetune_artifacts(options: FinetuneArtifactsOptions, messages: QuietOptions) -> None:
    """Remove light and colored lines along edges from what the generator makes: the last phase."""
    _train("finetune-artifacts", options, messages)


def _train(phase: str, options: TrainOptions, messages: QuietOptions) -> None:
    with requires("train", "mst train"):
        from mst_deploy.training import command
    command.train(phase, options, messages.reporter())
