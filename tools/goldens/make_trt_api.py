"""Record TensorRT's Python API of 8.6, 10, 11 and for RTX (1) from the real bindings; needs no GPU.

Run from the repository: python -m tools.goldens.make_trt_api

The bindings are small wheels that need only the symbols of the libraries: a stub compiled by gcc suffices.
For every class that the project uses, this writes methods with their signatures, properties and enum members
into trt_api_8.json, trt_api_10.json, trt_api_11.json and trt_api_1.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.goldens import GOLDENS, ROOT

RTX = 1
"""TensorRT for RTX counts its versions from 1."""
WHEELS = {
    RTX: "tensorrt-rtx-cu13-bindings==1.7.1.116",
    8: "tensorrt-bindings==8.6.1",
    10: "tensorrt-cu12-bindings==10.16.1.11",
    11: "tensorrt-cu13-bindings==11.4.0.106",
}
CLASSES = (
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "ICudaEngine",
    "IExecutionContext",
    "IOptimizationProfile",
    "Logger",
    "ILogger",
    "EngineInspector",
    "ITimingCache",
    "IHostMemory",
    "IProgressMonitor",
    "ITensor",
    "ILayer",
    "Refitter",
    "OnnxParserRefitter",
    "IRuntimeConfig",
    "IRuntimeCache",
)
ENUMS = (
    "BuilderFlag",
    "NetworkDefinitionCreationFlag",
    "OnnxParserFlag",
    "MemoryPoolType",
    "TensorIOMode",
    "DataType",
    "HardwareCompatibilityLevel",
    "LayerInformationFormat",
    "ProfilingVerbosity",
    "LayerType",
    "ComputeCapability",
    "EngineValidity",
    "EngineInvalidityDiagnostics",
    "DynamicShapesKernelSpecializationStrategy",
    "CudaGraphStrategy",
)
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
    # 8.6 also wants the parsers of two formats that are gone
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)
LIBRARIES = {
    RTX: ("tensorrt_rtx", "tensorrt_onnxparser_rtx"),
    **dict.fromkeys((8, 10, 11), ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")),
}


def importable(major: int, folder: Path) -> dict[str, str]:
    """Download the bindings and compile their stub into ``folder``; return the environment in which they
    import.

    Raises subprocess.CalledProcessError or OSError where pip, the wheel or gcc is not available.
    """
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "-d",
        str(folder),
        WHEELS[major],
    ]
    subprocess.run(fetch, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    stub = folder / "stub.c"
    stub.write_text("\n".join(f"int {name}(void) {{ return 0; }}" for name in SYMBOLS))
    for library in LIBRARIES[major]:
        name = f"lib{library}.so.{major}"
        compile_it = ["gcc", "-shared", "-fPIC", "-o", str(folder / name), str(stub), f"-Wl,-soname,{name}"]
        subprocess.run(compile_it, check=True, capture_output=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder / "site")}


def read_api(major: int, folder: Path) -> dict[str, Any]:
    """Return the API of the real bindings, read in a process of their own."""
    module = "tensorrt_rtx_bindings" if major == RTX else "tensorrt_bindings"
    imports = "from tools.goldens.make_trt_api import describe"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {imports}; describe({module!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=importable(major, folder),
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def describe(module: str) -> None:
    """Print the API of the importable bindings as JSON."""
    trt = import_module(module)

    api: dict[str, Any] = {"version": trt.__version__, "classes": {}, "enums": {}}
    for name in CLASSES:
        if hasattr(trt, name):
            api["classes"][name] = describe_class(getattr(trt, name))
    for name in ENUMS:
        if hasattr(trt, name):
            members = getattr(trt, name).__members__
            api["enums"][name] = {member: int(value) for member, value in sorted(members.items())}
    severity = trt.ILogger.Severity.__members__
    api["enums"]["ILogger.Severity"] = {member: int(value) for member, value in sorted(severity.items())}
    print(json.dumps(api))


def describe_class(cls: Any) -> dict[str, Any]:
    """Return methods with their overloads, and properties with whether they can be set."""
    found: dict[str, Any] = {"methods": {}, "properties": {}}
    for name in dir(cls):
        if name.startswith("_") and name not in ("__init__", "__len__", "__getitem__"):
            continue
        member = getattr(cls, name)
        if isinstance(member, property):
            found["properties"][name] = member.fset is not None
        elif callable(member) and not isinstance(member, type):
            overloads = signatures(name, member.__doc__ or "")
            if overloads:
                found["methods"][name] = overloads
    return found


def signatures(name: str, text: str) -> list[list[Any]]:
    """Parse pybind11's signature lines to [[(argument, has a default), ...], return type] for each
    overload."""
    found = []
    for line in text.splitlines():
        stripped = line.strip()
        stripped = stripped.partition(". ")[2] if stripped[:1].isdigit() else stripped
        if not stripped.startswith(f"{name}(") or "*args" in stripped:
            continue
        inside, _, returned = stripped[len(name) + 1 :].rpartition(") -> ")
        arguments = [(part.partition(":")[0].strip(), "=" in part) for part in split(inside)]
        if arguments and arguments[0][0] in ("self", "arg0"):
            arguments = arguments[1:]
        found.append([arguments, returned.rpartition(".")[2].strip("]")])
    return found


def split(inside: str) -> list[str]:
    """Split at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(inside):
        depth += (character in "[(<{") - (character in "])>}")
        if character == "," and depth == 0:
            parts.append(inside[start:index])
            start = index + 1
    return [part for part in [*parts, inside[start:]] if part.strip()]


def main() -> None:
    import tempfile

    for major in WHEELS:
        with tempfile.TemporaryDirectory() as folder:
            api = read_api(major, Path(folder))
        (GOLDENS / f"trt_api_{major}.json").write_text(
            json.dumps(api, sort_keys=True, separators=(",", ":")) + "\n"
        )
        print(major, api["version"], {name: len(c["methods"]) for name, c in api["classes"].items()})


if __name__ == "__main__":
    main()
