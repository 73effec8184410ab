"""Unconditioned baseline: one network per style (Johnson et al. 2016, arXiv 1603.08155)."""

from __future__ import annotations

from typing import ClassVar, Literal

from mst_deploy.model.injections.base import PlainNorms


class Johnson(PlainNorms):
    """Plain generator; its normalizations have an ordinary learned scale and shift."""

    NEEDS: ClassVar[Literal["nothing"]] = "nothing"
