"""The commands ``mst train ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mst_deploy.cli.options import DeviceOption, QuietOption, requires, terminal

train_app = typer.Typer(help="Train models on your own pictures.", no_args_is_help=True)

ContentOption = Annotated[
    list[Path], typer.Option(help="Photographs: folder, tar file or list (.txt); may be repeated.")
]
ArtOption = Annotated[
    list[Path], typer.Option("--style", help="Artworks: folder, tar file or list (.txt); may be repeated.")
]
VggOption = Annotated[
    Path | None,
    typer.Option(help="VGG-19: torchvision's .pth, or .safetensors. Default: downloaded once."),
]
VggScalesOption = Annotated[
    Path | None, typer.Option(help="Factors that normalize VGG-19. Default: taken from the photographs.")
]
VggDistilledOption = Annotated[
    Path | None, typer.Option(help="Distilled VGG-19 that stands in for relu5_1 if --vgg lacks it.")
]
InceptionOption = Annotated[
    Path | None,
    typer.Option(
        help="Inception-v3: torchvision's .pth, or .safetensors. Default: that of base, or downloaded."
    ),
]
StatisticsOption = Annotated[
    str,
    typer.Option(
        help="Statistics that the encoder computes of a picture: moments (of Inception to Mixed_5d) or mean "
        "(of Mixed_6e, as published)."
    ),
]
HeldOutOption = Annotated[
    Path | None, typer.Option(help="Text file of SHA-256 hashes of images not to train on.")
]
MinutesOption = Annotated[float | None, typer.Option(min=0.01, help="Length of the run in minutes.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Length of the run in optimizer steps.")]
RateOption = Annotated[float | None, typer.Option(help="Peak learning rate. Default: the recipe's.")]
PrecisionOption = Annotated[str | None, typer.Option(help="bf16, fp16 or fp32. Default: the recipe's.")]
BatchScaleOption = Annotated[
    float, typer.Option(min=0.01, help="Multiplies every batch size (rounded, at least 1), for GPUs.")
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of weights and data order.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=0, help="Processes that decode images. Default: 1, or up to 16 for a GPU."),
]
SaveEveryOption = Annotated[float, typer.Option(min=0.01, help="Minutes between saved states.")]
SaveStepsOption = Annotated[
    int | None, typer.Option(min=1, help="Steps between saved states, in place of minutes.")
]
CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the networks with TorchInductor first: a minute or two, then faster steps."
    ),
]


@train_app.command("classify")
def train_classify(
    style: ArtOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")] = Path(
        "runs/classify"
    ),
    statistics: StatisticsOption = "moments",
    inception: InceptionOption = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Hashes of artworks to measure with. Default: every eighth of a movement."),
    ] = None,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    precision: PrecisionOption = None,
    batch_scale: BatchScaleOption = 1.0,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    save_steps: SaveStepsOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Train Inception to classify paintings by art movement, the folders below --style: the first phase."""
    with requires("train", "mst train"):
        from mst_deploy.training import command
    command.classify(
        style,
        output,
        statistics=statistics,
        inception=inception,
        held_out=held_out,
        steps=steps,
        learning_rate=learning_rate,
        precision=precision,
        batch_scale=batch_scale,
        seed=seed,
        workers=workers,
        save_steps=save_steps,
        device=device,
        reporter=terminal(quiet=quiet),
    )


@train_app.command("joint")
def train_joint(
    content: ContentOption,
    style: ArtOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")] = Path("runs/joint"),
    recipe: Annotated[
        str, typer.Option(help="default, lite, paper (as published) or a .json file, such as a run.json.")
    ] = "default",
    injection: Annotated[
        str | None,
        typer.Option(help="How the style enters: film, concat, inject1x1, add, patch or johnson."),
    ] = None,
    statistics: Annotated[
        str | None,
        typer.Option(help="Statistics of the encoder: moments or mean. Default: the recipe's."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Checkpoint or bundle to start from. Default: from scratch.")
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="Checkpoint or bundle whose generator is taken over; the encoder starts anew."),
    ] = None,
    prune_from: Annotated[
        str | None,
        typer.Option(help="Checkpoint or bundle that a narrower network of the recipe starts from."),
    ] = None,
    vgg: VggOption = None,
    vgg_scales: VggScalesOption = None,
    vgg_distilled: VggDistilledOption = None,
    inception: InceptionOption = None,
    held_out: HeldOutOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    epochs: Annotated[float | None, typer.Option(help="Length in passes over the photographs.")] = None,
    learning_rate: RateOption = None,
    style_weight: Annotated[
        float | None, typer.Option(help="One style weight for the whole run. Default: the recipe's.")
    ] = None,
    temporal_weight: Annotated[
        float | None, typer.Option(help="Weight of the flicker under small shifts and noise.")
    ] = None,
    precision: PrecisionOption = None,
    batch_scale: BatchScaleOption = 1.0,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    save_every: SaveEveryOption = 5.0,
    save_steps: SaveStepsOption = None,
    device: DeviceOption = "auto",
    compiled: CompileOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train generator and style encoder together. The run in the folder -o is continued if there is one.

    On several GPUs: torchrun --nproc-per-node 4 -m mst_deploy train joint ...
    """
    with requires("train", "mst train"):
        from mst_deploy.training import command
    command.train(
        phase="joint",
        content=content,
        style=style,
        output=output,
        recipe=recipe,
        injection=injection,
        statistics=statistics,
        start=start,
        generator=generator,
        prune_from=prune_from,
        vgg=vgg,
        vgg_scales=vgg_scales,
        vgg_distilled=vgg_distilled,
        inception=inception,
        held_out=held_out,
        minutes=minutes,
        steps=steps,
        epochs=epochs,
        learning_rate=learning_rate,
        style_weight=style_weight,
        temporal_weight=temporal_weight,
        precision=precision,
        batch_scale=batch_scale,
        seed=seed,
        workers=workers,
        save_every=save_every,
        save_steps=save_steps,
        device=device,
        compiled=compiled,
        reporter=terminal(quiet=quiet),
    )


def add_later_phase(phase: str, text: str) -> None:
    """Add a command that continues from a finished model; its recipe and the folder of its runs have its
    name."""

    @train_app.command(phase, help=text)
    def train_on(
        start: Annotated[str, typer.Option(help="Checkpoint or bundle to continue from.")],
        content: ContentOption,
        style: ArtOption,
        output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")] = Path("runs")
        / phase,
        recipe: Annotated[str, typer.Option(help="Name of a recipe, or a .json file.")] = phase,
        vgg: VggOption = None,
        vgg_scales: VggScalesOption = None,
        vgg_distilled: VggDistilledOption = None,
        held_out: HeldOutOption = None,
        minutes: MinutesOption = None,
        steps: StepsOption = None,
        learning_rate: RateOption = None,
        precision: PrecisionOption = None,
        batch_scale: BatchScaleOption = 1.0,
        seed: SeedOption = None,
        workers: WorkersOption = None,
        save_every: SaveEveryOption = 5.0,
        save_steps: SaveStepsOption = None,
        device: DeviceOption = "auto",
        compiled: CompileOption = False,
        quiet: QuietOption = False,
    ) -> None:
        with requires("train", "mst train"):
            from mst_deploy.training import command
        command.train(
            phase=phase,
            content=content,
            style=style,
            output=output,
            recipe=recipe,
            start=start,
            vgg=vgg,
            vgg_scales=vgg_scales,
            vgg_distilled=vgg_distilled,
            held_out=held_out,
            minutes=minutes,
            steps=steps,
            learning_rate=learning_rate,
            precision=precision,
            batch_scale=batch_scale,
            seed=seed,
            workers=workers,
            save_every=save_every,
            save_steps=save_steps,
            device=device,
            compiled=compiled,
            reporter=terminal(quiet=quiet),
        )


add_later_phase("encoder", "Fine-tune the whole style encoder with the generator frozen: the second phase.")
add_later_phase(
    "finetune-artifacts",
    "Remove light and colored lines along edges from what the generator makes: the last phase.",
)
