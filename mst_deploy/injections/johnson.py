"""No condition: one network per style (Johnson et al. 2016, arXiv 1603.08155), the baseline."""

from __future__ import annotations

from typing import ClassVar, Literal

from mst_deploy.injections.base import PlainNorms


class Johnson(PlainNorms):
    """The plain generator; its normalisations have an ordinary learnt scale and shift."""

    NEEDS: ClassVar[Literal["nothing"]] = "nothing"
