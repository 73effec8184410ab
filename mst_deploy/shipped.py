"""The model and the styles that come with the package."""

from __future__ import annotations

from pathlib import Path

from mst_deploy.film import STYLE_SUFFIX, Style, load_style

DEFAULT_BUNDLE = Path(__file__).parent / "models" / "default"
STYLE_FOLDER = Path(__file__).parent / "styles"


def shipped_styles() -> dict[str, Path]:
    """Style files by name, sorted."""
    return {path.stem: path for path in sorted(STYLE_FOLDER.glob(f"*{STYLE_SUFFIX}"))}


def load_shipped_styles() -> list[Style]:
    """All shipped styles in order of name."""
    return [load_style(path) for path in shipped_styles().values()]
