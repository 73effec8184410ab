"""Groups of options in the help of commands that have many."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

PANELS = {
    "Input and output": "output columns size start end preview sample_every rate fps loop seconds retry "
    "control resume force max_pixels dry_run report",
    "Style": "style styles strength fade preserve_color mask background_style timeline optimize_style vgg",
    "Strokes": "strokes stroke_size seed",
    "Video": "deflicker sdr codec crf bitrate audio subtitles hwaccel",
    "Model and device": "model backend device batch frames_per_call",
    "Workers": "address workers cpus_per_worker gpus_per_worker tries same_bytes trust_network",
    "Messages": "quiet as_json latency_test devices",
}
"""Names of parameters by the group they are shown in; others are shown under "Options"."""


class PanelCommand(TyperCommand):
    """A command whose help shows its options in groups."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        panels = {name: panel for panel, names in PANELS.items() for name in names.split()}
        for parameter in self.params:
            if parameter.param_type_name == "option":
                parameter.rich_help_panel = panels.get(parameter.name or "")  # type: ignore[attr-defined]
