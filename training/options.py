"""Options of the commands ``mst train ...``. Nothing here loads PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mst_deploy.options import MODEL, Option

DATA = "Images"
START = "Networks"
LENGTH = "Length of the run"
TRAINING = "Training"

Contents = Annotated[
    tuple[Path, ...],
    Option("Photographs: folder, tar file or text file of paths (.txt). May be repeated.", DATA),
]
Artworks = Annotated[
    tuple[Path, ...],
    Option("Artworks: folder, tar file or text file of paths (.txt). May be repeated.", DATA),
]
Output = Annotated[Path, Option("Folder of the run; one that holds this run is continued.", DATA)]
Inception = Annotated[
    Path | None,
    Option("Inception-v3: torchvision's .pth, or .safetensors. Default: that of base, or downloaded.", START),
]
Steps = Annotated[int | None, Option("Length in optimizer steps.", LENGTH, minimum=1)]
SaveSteps = Annotated[
    int | None, Option("Steps between saved states, in place of minutes.", LENGTH, minimum=1)
]
LearningRate = Annotated[float | None, Option("Peak learning rate. Default: the recipe's.", TRAINING)]
Precision = Annotated[
    str | None, Option("Type of the computation: bf16, fp16 or fp32. Default: the recipe's.", TRAINING)
]
BatchScale = Annotated[
    float,
    Option("Factor of every batch size (rounded, at least 1), for GPUs.", TRAINING, minimum=0.01),
]
Seed = Annotated[int | None, Option("Seed of weights and data order. Default: the recipe's.", TRAINING)]
Workers = Annotated[
    int | None,
    Option("Processes that decode images. Default: 1, or up to 16 for a GPU.", MODEL, minimum=0),
]
Device = Annotated[str, Option("cpu, cuda, or auto: cuda where there is an NVIDIA GPU.", MODEL)]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of training the generator and the style encoder, in any phase. None leaves the recipe's value.

    Fields without a description are offered by some phases only.
    """

    content: Contents
    style: Artworks
    held_out: Annotated[
        Path | None,
        Option("Images not to train on: a text file of their SHA-256 hashes, one a line.", DATA),
    ] = None
    output: Output
    recipe: Annotated[str, Option("Name of a recipe, or a .json file such as a run.json.", START)]
    injection: str | None = None
    """Conditioning of the generator on the style."""
    statistics: str | None = None
    """Statistics of features that the style encoder computes."""
    start: str | None = None
    """Checkpoint or bundle with the initial weights of both networks."""
    generator: str | None = None
    """Checkpoint or bundle with the initial weights of the generator alone."""
    prune_from: str | None = None
    """Checkpoint or bundle whose channels are pruned to the widths of the recipe."""
    inception: Path | None = None
    """Weights of Inception that a new style encoder starts from."""
    vgg: Annotated[
        Path | None,
        Option("VGG-19 of the losses: torchvision's .pth, or .safetensors. Default: downloaded once.", START),
    ] = None
    vgg_scales: Annotated[
        Path | None,
        Option(
            "Scales of VGG-19's channels (.safetensors) that normalize its activations. Default: computed "
            "from the photographs.",
            START,
        ),
    ] = None
    vgg_distilled: Annotated[
        Path | None,
        Option(
            "Distilled network that takes the place of relu5_1 if [option:vgg] ends before that layer.",
            START,
        ),
    ] = None
    minutes: Annotated[float | None, Option("Length in minutes.", LENGTH, minimum=0.01)] = None
    steps: Steps = None
    epochs: float | None = None
    """Length in passes over the photographs."""
    save_every: Annotated[float, Option("Minutes between saved states.", LENGTH, minimum=0.01)] = 5.0
    save_steps: SaveSteps = None
    learning_rate: LearningRate = None
    style_weight: float | None = None
    """Weight of the style loss during the whole run."""
    temporal_weight: float | None = None
    """Weight of the temporal loss."""
    precision: Precision = None
    batch_scale: BatchScale = 1.0
    seed: Seed = None
    workers: Workers = None
    device: Device = "auto"
    compiled: Annotated[
        bool,
        Option("Compile the networks with TorchInductor first: a minute or two, then faster steps.", MODEL),
    ] = False


@dataclass(frozen=True, kw_only=True)
class JointOptions(TrainOptions):
    """Options of training both networks together."""

    output: Output = Path("runs/joint")
    recipe: Annotated[
        str,
        Option("default, lite, paper (as published) or a .json file, such as a run.json.", START),
    ] = "default"
    injection: Annotated[
        str | None,
        Option(
            "How the generator is conditioned on the style: film, concat, inject1x1, add, patch or johnson. "
            "Default: the recipe's.",
            START,
        ),
    ] = None
    statistics: Annotated[
        str | None,
        Option(
            "What the style encoder computes of Inception's features: moments (means and deviations of "
            "several layers) or mean (of one layer, as published). Default: the recipe's.",
            START,
        ),
    ] = None
    start: Annotated[
        str | None, Option("Checkpoint or bundle to start from. Default: random weights.", START)
    ] = None
    generator: Annotated[
        str | None,
        Option("Checkpoint or bundle to take only the generator from; the encoder is new.", START),
    ] = None
    prune_from: Annotated[
        str | None,
        Option("Checkpoint or bundle whose channels are pruned to the widths of the recipe.", START),
    ] = None
    inception: Inception = None
    epochs: Annotated[float | None, Option("Length in passes over the photographs.", LENGTH)] = None
    style_weight: Annotated[
        float | None,
        Option("Weight of the style loss for the whole run. Default: the recipe's.", TRAINING),
    ] = None
    temporal_weight: Annotated[
        float | None,
        Option(
            "Weight of the temporal loss: how much the result changes under small shifts and noise of the "
            "input. Default: the recipe's.",
            TRAINING,
        ),
    ] = None


Start = Annotated[str, Option("Checkpoint or bundle to continue from.", START)]
Recipe = Annotated[str, Option("Name of a recipe, or a .json file.", START)]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(TrainOptions):
    """Options of fine-tuning the style encoder with the generator frozen."""

    start: Start = field()
    output: Output = Path("runs/encoder")
    recipe: Recipe = "encoder"


@dataclass(frozen=True, kw_only=True)
class FinetuneArtifactsOptions(TrainOptions):
    """Options of fine-tuning the generator against artifacts."""

    start: Start = field()
    output: Output = Path("runs/finetune-artifacts")
    recipe: Recipe = "finetune-artifacts"


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """Options of training Inception to classify paintings."""

    style: Artworks
    held_out: Annotated[
        Path | None,
        Option(
            "Artworks to measure the accuracy with: a text file of their SHA-256 hashes, one a line. "
            "Default: every eighth of a movement.",
            DATA,
        ),
    ] = None
    output: Output = Path("runs/classify")
    statistics: Annotated[
        str,
        Option(
            "Which layers are trained, by what the style encoder will compute of them: moments (to Mixed_5d) "
            "or mean (to Mixed_6e, as published).",
            START,
        ),
    ] = "moments"
    inception: Inception = None
    steps: Steps = None
    save_steps: SaveSteps = None
    learning_rate: LearningRate = None
    precision: Precision = None
    batch_scale: BatchScale = 1.0
    seed: Seed = None
    workers: Workers = None
    device: Device = "auto"
