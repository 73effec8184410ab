"""What comes with the package: models, the styles that were made for them, and photographs.

``models/NAME`` is a bundle, ``styles/NAME`` holds its styles: only the model that made a style can use it.
``photographs`` are sixteen everyday ones, 256x256, that stand for all others where a style is tuned.
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
    """The bundle of a shipped model. Raises InvalidArgument for another name."""
    return ASSETS / "models" / known(model)


def style_folder(model: str) -> Path:
    """Where the styles of a shipped model are. Raises InvalidArgument for another name."""
    return ASSETS / "styles" / known(model)


def resolve_model(given: str | os.PathLike[str] | None = None) -> Path:
    """What a person calls a model -> a path: a shipped model's name, or a path; ``base`` for None.

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
    """Style files of a shipped model by name, sorted."""
    return {path.stem: path for path in sorted(style_folder(model).glob(f"*{STYLE_SUFFIX}"))}


def load_shipped_styles(model: str = DEFAULT_MODEL) -> list[Style]:
    """All styles of a shipped model in order of name."""
    return [load_style(path) for path in shipped_styles(model).values()]


def styles_for(model_id: str) -> dict[str, Style]:
    """The shipped styles that this model can use, by name; none for a model that is not shipped."""
    every = (style for model in MODELS for style in load_shipped_styles(model))
    return {style.name: style for style in every if style.model_id == model_id}


def shipped_name(model_id: str) -> str | None:
    """What the package calls the model with this identity, going by its styles."""
    return next(
        (model for model in MODELS if any(s.model_id == model_id for s in load_shipped_styles(model))), None
    )


def known(model: str) -> str:
    if model not in MODELS:
        raise InvalidArgument(
            field="model",
            problem=f"there is no shipped model {model!r}",
            hint=f"shipped are {', '.join(MODELS)}",
        )
    return model


def shipped_photographs() -> list[Path]:
    """Their files, sorted; ``photographs.csv`` beside them says where they are from."""
    return sorted((ASSETS / "photographs").glob("*.jpg"))
