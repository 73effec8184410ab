"""The backend ``auto``: the fastest of this machine that gives the right picture.

``gather`` finds the facts, by which ``choice.choose`` decides; what takes long to find
(parity and speed of a candidate, a CUDA session) is remembered in the user's cache folder, by everything that
it depends on.
A backend that was named, on the command line or in the environment variable ``MST_BACKEND``, is never
replaced by another: ``choose`` is asked only where none was.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec as find_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst_deploy import __version__
from mst_deploy.backends.base import check_device
from mst_deploy.backends.choice import FALLBACK, Choice, Facts, Trial, candidates, choose
from mst_deploy.backends.registry import (
    AUTO,
    BACKENDS,
    check_precision,
    find_spec,
    with_precision,
)
from mst_deploy.environment import cuda_device_name, processor_flags, processor_name, version
from mst_deploy.errors import MstError, OutputError
from mst_deploy.files import replacing, user_cache
from mst_deploy.model.bundle import GENERATOR, GENERATOR_INT8, Bundle
from mst_deploy.model.zoo import MODELS

if TYPE_CHECKING:
    from mst_deploy.backends.base import FilmBatch, Images

Sizes = Sequence[tuple[int, int]]
"""Sizes of frames, (width, height) in pixels."""

PICTURE = (160, 192)
"""Height and width of the check picture: small, because every candidate is run on it."""
CALLS = 2
"""Timed calls of each candidate, after one that is not; the fastest counts."""
NEEDED_FLAGS = {
    "bf16": frozenset({"amx_bf16", "avx512_bf16", "bf16"}),
    "int8": frozenset({"amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"}),
}
"""Instruction sets of x86 and ARM, of which a processor needs one to be fast in a precision. With AVX512-BF16
alone bfloat16 is twice as fast as float32 on some and slower on others, so that all is measured."""
INSTRUCTIONS = {"bf16": "AMX-BF16, AVX512-BF16 or ARM's BF16", "int8": "AMX-INT8, VNNI or ARM's dot product"}
"""The same in words."""
FOLDER = "backends"
VARIABLE = "MST_BACKEND"
"""Environment variable that names the backend where none is named otherwise."""


def resolve(
    bundle: Bundle, backend: str, device: str, sizes: Sizes = (), batch: int = 1, precision: str = AUTO
) -> Choice:
    """Return what to open for a bundle on this machine: ``backend`` itself unless it is auto.

    The environment variable ``MST_BACKEND`` takes the place of auto. An engine is chosen only where ``sizes``
    are known and there is one for each of them, in batches of ``batch``. Raises InvalidArgument for a device
    or precision that does not exist, and a precision in which nothing computes here.
    """
    named = os.environ.get(VARIABLE, AUTO) if backend == AUTO else backend
    if named != AUTO:
        on_gpu = device == "cuda" or (device == "auto" and cuda_device_name() is not None)
        weights = bundle.manifest.precision
        return Choice(with_precision(named, precision, "cuda" if on_gpu else "cpu", weights), device)
    check_device(device)
    check_precision(precision)
    return choose(gather(bundle, device, sizes, batch, precision))


def gather(bundle: Bundle, device: str, sizes: Sizes = (), batch: int = 1, precision: str = AUTO) -> Facts:
    """Find the facts for a choice; candidates on the CPU are checked only if it comes to them."""
    gpu = cuda_device_name() if device != "cpu" else None
    memory = Memory.of(bundle, gpu)
    facts = Facts(device, precision, gpu)
    if gpu:
        engines = "an engine computes in the precision that it was built for; name the backend trt"
        no_engine = why_no_engine(bundle, sizes, batch) if precision == AUTO else engines
        facts = replace(facts, no_engine=no_engine)
        if no_engine is None:
            return facts
        if precision not in (AUTO, bundle.manifest.precision):
            no_cuda: Any = f"there it computes in {bundle.manifest.precision}, as the model was exported"
        else:
            no_cuda = memory.get("cuda", partial(why_no_cuda, bundle), keep=lambda why: why is None)
        facts = replace(facts, no_cuda=no_cuda)
        if no_cuda is None:
            return facts
    if device == "cuda":
        return facts
    excluded: dict[str, str] = {}
    trials: dict[str, Trial] = {}
    check = Check(bundle)
    for name in candidates(precision):
        if name == FALLBACK and not trials:  # nothing to compare it with
            break
        found: Any = why_excluded(name, bundle) or memory.get(name, partial(check, name), keep=_is_trial)
        if isinstance(found, str):
            excluded[name] = found
        else:
            trials[name] = Trial(*found)
    return replace(facts, excluded=excluded, trials=trials)


def why_excluded(name: str, bundle: Bundle) -> str | None:
    """Return why a candidate on the CPU cannot run a bundle here, without importing it; None if it may."""
    backend, _, precision = name.partition(":")
    for package, distributions in find_spec(backend).packages.items():
        if find_module(package) is None:
            return f"not installed; pip install {distributions[0]}"
    if precision == "int8" and GENERATOR_INT8 not in bundle.manifest.files:
        model = bundle.manifest.name if bundle.manifest.name in MODELS else bundle.path
        return f"this model has no generator in int8; mst export {model} [option:precision] int8 makes one"
    if precision in NEEDED_FLAGS and not processor_flags() & NEEDED_FLAGS[precision]:
        return f"this processor is not known to compute fast in {precision} ({INSTRUCTIONS[precision]})"
    return None


class Check:
    """Runs backends on the check picture in one style and compares them with ONNX Runtime in float32."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @cached_property
    def example(self) -> tuple[Images, FilmBatch, Images]:
        """The picture (1, H, W, 3), FiLM vector (1, P), and the result in float32."""
        from mst_deploy.backends.parity import run_in_float32, sample_picture
        from mst_deploy.backends.trt.verify import film_params_for

        frames, film = sample_picture(*PICTURE, seed=0)[None], film_params_for(self.bundle)[:1]
        return frames, film, run_in_float32(self.bundle.generator, frames, film)

    def __call__(self, name: str) -> list[float] | str:
        """Return PSNR in dB and seconds of a backend (see ``Trial``), or why it did not run."""
        from mst_deploy.backends.base import open_generator
        from mst_deploy.backends.parity import psnr

        seconds = []
        try:
            frames, film, expected = self.example
            with open_generator(self.bundle, name, "cpu") as generator:
                stylized = generator(frames, film)
                for _ in range(CALLS):
                    started = time.process_time()
                    generator(frames, film)
                    seconds.append(time.process_time() - started)
        except (
            MstError,
            RuntimeError,
            ImportError,
            OSError,
        ) as error:  # what a runtime that is broken raises
            return (
                f"it does not run here ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            )
        return [round(min(psnr(expected, stylized), 100.0), 2), max(round(min(seconds), 6), 1e-6)]


def _is_trial(found: Any) -> bool:
    """Return whether something is worth remembering: failures are tried again, because their cause may be
    gone."""
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(isinstance(value, float) for value in found)
        and 0 <= found[0] <= 100
        and found[1] > 0
    )


def why_no_cuda(bundle: Bundle) -> str | None:
    """Return why ONNX Runtime cannot run a bundle on the GPU; None if it can."""
    from mst_deploy.backends.onnxrt import open_session

    try:
        open_session(bundle.generator, "cuda")
    except MstError as error:
        return str(error)
    return None


def why_no_engine(bundle: Bundle, sizes: Sizes, batch: int) -> str | None:
    """Return why no TensorRT engine can be used for frames of these sizes; None if there is one for each.

    TensorRT is imported only where an engine of this model with the right sizes is in the cache.
    """
    from mst_deploy.backends.trt.engine_cache import Engine, cache_folder, find_engine, listed

    if not sizes:
        return "the sizes of the frames are not known beforehand"
    graph = bundle.manifest.files[GENERATOR]
    shapes = sorted({(batch, height, width) for width, height in sizes})
    engines = [
        engine
        for engine in listed(cache_folder())
        if isinstance(engine, Engine) and engine.identity.onnx_sha256 == graph
    ]
    for shape in shapes:
        if not any(engine.identity.shapes.covers(shape) for engine in engines):
            return f"no engine for {shape[2]}x{shape[1]} in the cache; mst build makes one"
    from mst_deploy.backends.trt import compat
    from mst_deploy.backends.trt.runner import machine, open_cuda

    try:
        runtimes = compat.installed()
        cuda = open_cuda()
    except MstError as error:
        return str(error)
    try:
        here = machine(runtimes, cuda)
        for shape in shapes:
            if find_engine(cache_folder(), graph, here, shape) is None:
                if here.gpu and list(here.versions) == [compat.RTX]:
                    no_target = compat.no_target(here.gpu.name, here.gpu.compute_capability)
                    if no_target:
                        return no_target
                return f"the engines for {shape[2]}x{shape[1]} in the cache are not for this machine"
    finally:
        cuda.close()
    return None


@dataclass
class Memory:
    """Facts that took long to find, in one file for everything that they depend on.

    A file that cannot be read, is damaged or belongs to something else counts as empty; one that cannot be
    written is not: the facts are then found again the next time.
    """

    path: Path
    key: Mapping[str, Any]

    @classmethod
    def of(cls, bundle: Bundle, gpu: str | None) -> Memory:
        """The facts about a bundle on this machine, with what is installed on it now."""
        distributions = {
            name for spec in BACKENDS.values() for names in spec.packages.values() for name in names
        } | {"numpy", "onnx"}
        key = {
            "program": __version__,
            "model_id": bundle.manifest.model_id,
            "graphs": dict(bundle.manifest.files),
            "packages": {name: version(name) for name in sorted(distributions)},
            "machine": platform.machine(),
            "processor": [processor_name(), os.cpu_count(), *sorted(processor_flags())],
            "gpu": gpu,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        return cls(user_cache(FOLDER) / f"{digest}.json", key)

    def get(self, name: str, find: Callable[[], Any], keep: Callable[[Any], bool]) -> Any:
        """Return the fact of a name: the remembered one if it is one to be kept, else a new one, which is
        remembered if it is."""
        facts = self.read()
        if name in facts and keep(facts[name]):
            return facts[name]
        found = find()
        if keep(found):
            with suppress(OSError, OutputError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self.path) as temporary:
                    temporary.write_text(json.dumps({"key": self.key, "facts": {**facts, name: found}}))
        return found

    def read(self) -> dict[str, Any]:
        """All facts that are remembered."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(stored, dict) or stored.get("key") != self.key:
            return {}
        facts = stored.get("facts")
        return facts if isinstance(facts, dict) else {}
