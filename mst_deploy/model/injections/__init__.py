"""How a style enters the generator: six ways behind one interface, chosen by ``NetworkConfig.injection``.

    name       the condition           what the residual trunk does with it
    film       FiLM vector (N, P)         scale and shift after every normalization, of the whole network
    concat     embedding z (N, d)      z spread over the map, concatenated, fused by a 1x1 convolution
    inject1x1  embedding z (N, d)      a 1x1 convolution of z, one for each convolution, is added
    add        embedding z (N, d)      one linear map of z, shared by all blocks, is added
    patch      features of both        the content's features, made of the style's patches, are added
    johnson    nothing                 a plain network: one style, learned by heart

Instance normalization takes away whatever is constant over a map. A map of z that is added or concatenated
right before a convolution whose output is normalized would therefore change nothing at all (exactly so with
reflected borders), and one that is added on the skip path would be taken away after the trunk. So every
injection but ``film`` passes a ReLU between the injected value and the convolution that reads it.

Only ``film`` is exported: there, a style is one row of numbers beside an unchanging graph.
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
