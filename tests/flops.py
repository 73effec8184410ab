"""Arithmetic of a generator, counted by PyTorch while the network runs."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from mst_deploy.model.networks import Generator, NetworkConfig

SIDE = 64  # pixels; a multiple of 4, so that every resolution divides it


def multiply_adds_per_pixel(config: NetworkConfig) -> float:
    """Return the multiply-adds of a FiLM generator per output pixel (convolutions only)."""
    film = torch.from_numpy(config.film_layout.identity())[None]
    canvas = torch.zeros(1, 1, SIDE, SIDE) if config.canvas_bands else None
    generator = Generator(config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(torch.zeros(1, 3, SIDE, SIDE), film, canvas)
    return int(counter.get_total_flops()) / 2 / SIDE**2
