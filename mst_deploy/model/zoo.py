"""Assets of the package: models, the styles that were made for them, and photographs.

``models/NAME`` is a bundle, ``styles/NAME`` holds its styles: only the model that made a style can use it.
``photographs`` are sixteen everyday ones, 256x256 pixels, that represent all others when a style is
optimized.
"""

from __future__ import annotations

import os
from pathlib import Path

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.film import STYLE_SUFFIX, Style, load_style

MODELS = ("base", "lite")
DEFAULT_MODEL = "base"
ASSETS = Path(__file__).parent.parent / "assets"


def bundle_path(model: str) -> Path:
    """Return the folder of a shipped model's bundle. Raises InvalidArgument for another name."""
    return ASSETS / "models" / known(model)


def style_folder(model: str) -> Path:
    """Return the folder of a shipped model's styles. Raises InvalidArgument for another name."""
    return ASSETS / "styles" / known(model)


def resolve_model(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of a model given as a shipped model's name or a path; that of ``base`` for None.

    A name goes before a folder of that name in the working directory: ``lite`` is the shipped model
    everywhere, ``./lite`` is the folder here. A path object is always a path. Raises InvalidArgument
    for what is neither.
    """
    if given is None:
        return bundle_path(DEFAULT_MODEL)
    if isinstance(given, str) and given in MODELS:
        return bundle_path(given)
    path = Path(given)
    if not path.exists():
        raise InvalidArgument(
            field="model",
            problem=f"no model {os.fspath(given)!r}: it is neither shipped ({', '.join(MODELS)}) nor a file "
            "or folder",
        )
    return path


def shipped_styles(model: str = DEFAULT_MODEL) -> dict[str, Path]:
    """Return the style files of a shipped model by name, sorted."""
    return {path.stem: path for path in sorted(style_folder(model).glob(f"*{STYLE_SUFFIX}"))}


def load_shipped_styles(model: str = DEFAULT_MODEL) -> list[Style]:
    """Return all styles of a shipped model in order of name."""
    return [load_style(path) for path in shipped_styles(model).values()]


def styles_for(model_id: str) -> dict[str, Style]:
    """Return the shipped styles of the model with this identity, by name; empty for a model that is not
    shipped."""
    every = (style for model in MODELS for style in load_shipped_styles(model))
    return {style.name: style for style in every if style.model_id == model_id}


def shipped_name(model_id: str) -> str | None:
    """Return the name of the shipped model with this identity, determined from its styles; None for
    others."""
    return next(
        (model for model in MODELS if any(s.model_id == model_id for s in load_shipped_styles(model))), None
    )


def known(model: str) -> str:
    """Return ``model`` if it is shipped. Raises InvalidArgument otherwise."""
    if model not in MODELS:
        raise InvalidArgument(
            field="model",
            problem=f"there is no shipped model {model!r}",
            hint=f"shipped are {', '.join(MODELS)}",
        )
    return model


def shipped_photographs() -> list[Path]:
    """Return the files of the shipped photographs, sorted; ``photographs.csv`` beside them lists their
    sources."""
    return sorted((ASSETS / "photographs").glob("*.jpg"))
