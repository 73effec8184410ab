"""Style injection: six ways of conditioning the generator, chosen by ``NetworkConfig.injection``.

    name       condition               effect on the residual trunk
    film       FiLM vector (N, P)      scale and shift after every normalization, of the whole network
    concat     embedding z (N, d)      z expanded to a map, concatenated, fused by a 1x1 convolution
    inject1x1  embedding z (N, d)      a 1x1 convolution of z, one for each convolution, is added
    add        embedding z (N, d)      one linear map of z, shared by all blocks, is added
    patch      features of both        the content's features, rebuilt from the style's patches, are added
    johnson    nothing                 unconditioned network, trained for a single style

Instance normalization removes any constant of a map. A map of z that is added or concatenated right before a
convolution whose output is normalized would therefore have no effect at all (exactly so with reflected
borders), and one that is added on the skip path would be removed after the trunk. So every injection but
``film`` has a ReLU between the injected value and the convolution that reads it.

Only ``film`` is exported: there, a style is one vector beside an unchanging graph.
"""

from __future__ import annotations

from mst_deploy.model.injections.add import Add
from mst_deploy.model.injections.base import Injection, Places
from mst_deploy.model.injections.concat import Concat
from mst_deploy.model.injections.film import FilmInjection
from mst_deploy.model.injections.inject1x1 import Inject1x1
from mst_deploy.model.injections.johnson import Johnson
from mst_deploy.model.injections.patch import Patch

__all__ = ["INJECTIONS", "Injection", "Places"]

INJECTIONS: dict[str, type[Injection]] = {
    "film": FilmInjection,
    "concat": Concat,
    "inject1x1": Inject1x1,
    "add": Add,
    "patch": Patch,
    "johnson": Johnson,
}
