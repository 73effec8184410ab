"""The commands of ``mst``: their names, the functions that they run, and what they do in a sentence.

The sentences are the beginnings of the functions' docstrings, repeated here so that a list of commands
imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command and the function that takes its options, see ``signature.expand_options``."""

    function: str
    """Module below ``mst_deploy.cli``, and function."""
    summary: str
    """First paragraph of the function's docstring, in one line."""


@dataclass(frozen=True)
class Group:
    """Commands that share the word before theirs."""

    summary: str
    commands: Mapping[str, Command]


COMMANDS: Mapping[str, Command | Group] = {
    "image": Command("image:image", "Stylize pictures, with their transparency."),
    "sheet": Command(
        "sheet:sheet", "Show one picture in all shipped styles, or in those given, on one labeled sheet."
    ),
    "video": Command("video:video", "Stylize videos: same frames at the same times, the sound untouched."),
    "live": Command(
        "live:live",
        "Stylize live video: the newest frame is stylized, older ones are dropped, so the delay never grows.",
    ),
    "serve": Command(
        "serve:serve",
        "Serve a page that stylizes pictures, videos and the camera, and an HTTP API for programs.",
    ),
    "batch": Command("batch:batch", "Stylize many videos, or long ones, on several processes or machines."),
    "build": Command("engines:build", "Build a TensorRT engine and keep it for --backend trt."),
    "doctor": Command(
        "doctor:doctor",
        "Show what this machine can run, and the exact command that installs what is missing.",
    ),
    "export": Command(
        "export:export", "Write a model as two ONNX graphs with a manifest, verified against PyTorch."
    ),
    "style": Group(
        "Make reusable style files, optimize them for a video, list the shipped ones.",
        {
            "make": Command(
                "style:style_make",
                "Compute style files from pictures; they are small and work wherever --style does.",
            ),
            "optimize": Command(
                "style:style_optimize",
                "Optimize a style to match its painting more closely. Stylizing with it takes as long as "
                "before.",
            ),
            "list": Command(
                "style:style_list", "List the styles shipped for a model with artist, title and year."
            ),
        },
    ),
    "train": Group(
        "Train models on your own pictures.",
        {
            "classify": Command(
                "train:train_classify",
                "Train Inception to classify paintings by art movement, the folders below --style: the first "
                "phase.",
            ),
            "joint": Command(
                "train:train_joint",
                "Train generator and style encoder together. The run in the folder -o is continued if there "
                "is one.",
            ),
            "encoder": Command(
                "train:train_encoder",
                "Fine-tune the whole style encoder with the generator frozen: the second phase.",
            ),
            "finetune-artifacts": Command(
                "train:train_finetune_artifacts",
                "Remove light and colored lines along edges from what the generator makes: the last phase.",
            ),
        },
    ),
    "eval": Group(
        "Measure how good results are: any system's, a model's, a video's.",
        {
            "images": Command("eval:eval_images", "Measure existing results of any system."),
            "model": Command(
                "eval:eval_model",
                "Stylize photographs with a model, then measure the results. A stopped run is resumed.",
            ),
            "identity": Command(
                "eval:eval_identity",
                "Measure the photographs themselves as if they were results: the baseline without any style.",
            ),
            "optimum": Command(
                "eval:eval_optimum",
                "Optimize the pixels of every picture for the measured distances (slow), then measure: the "
                "best case.",
            ),
            "video": Command(
                "eval:eval_video",
                "Measure flicker: the warping error of a result, beside that of its source.",
            ),
            "compare": Command(
                "eval:eval_compare", "Make one table of several reports, if they can be compared."
            ),
            "sheet": Command(
                "eval:eval_sheet",
                "Make a blind comparison for people: sheets without names and a form; with --answers and "
                "--key count the votes.",
            ),
        },
    ),
    "engines": Group(
        "Manage the TensorRT engines that were built.",
        {
            "list": Command(
                "engines:engines_list",
                "List all engines: what they run on, where they were verified, and which this machine cannot "
                "use.",
            ),
            "explain": Command(
                "engines:engines_explain",
                "Show the details of one engine: what it requires, how it was verified, what it contains.",
            ),
            "verify": Command(
                "engines:engines_verify",
                "Read engines against their checksums; run those that fit this machine and model.",
            ),
            "prune": Command(
                "engines:engines_prune", "Remove engines that this machine cannot use, and damaged ones."
            ),
        },
    ),
    "bench": Group(
        "Measure how fast models run, and whether two measurements differ.",
        {
            "latency": Command(
                "bench:latency",
                "Measure latency by backend, size and batch; an error if the machine is too noisy for "
                "reliable figures.",
            ),
            "video": Command(
                "bench:video",
                "Measure a clip from file to file, stage by stage, beside the generator alone; results are "
                "deleted.",
            ),
            "compare": Command(
                "bench:compare",
                "Compare two reports row by row: whether B is significantly faster or slower than A.",
            ),
            "work": Command(
                "bench:work", "Count multiply-adds and bytes of a generator, operator by operator."
            ),
        },
    ),
}
