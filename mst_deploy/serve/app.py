"""The routes of the service. What they do is in ``service``; what they answer is described by OpenAPI."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse

from mst_deploy import __version__
from mst_deploy.errors import InvalidArgument, MstError
from mst_deploy.model.zoo import shipped_photographs
from mst_deploy.serve import problems
from mst_deploy.serve.guard import Access, Guard
from mst_deploy.serve.jobs import FINISHED, RESULT
from mst_deploy.serve.problems import Refused
from mst_deploy.serve.service import FIRST_FRAME, Service
from mst_deploy.serve.sockets import camera_route
from mst_deploy.serve.style_settings import StyleSettings
from mst_deploy.serve.uploads import read_picture, save_clip

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/camera.js": ("camera.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Files of the page: a fixed list, so that no name of a request is ever looked up on disk."""
EXAMPLE = "kodim22.jpg"
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
NDJSON = "application/x-ndjson"
EVENT_SECONDS = 0.5  # between two events of a job
CELL = 320
LARGEST_CELL = 1024

StyleQuery = Annotated[
    list[str], Query(description="Name or id of a style, as NAME or NAME=WEIGHT; repeat it to mix several.")
]
SizeQuery = Annotated[
    str, Query(description="Size of the result: WIDTHxHEIGHT, or the short side.", max_length=16)
]
DeflickerQuery = Annotated[bool, Query(description="Average frames along the motion, against flicker.")]


def settings_of(
    style: StyleQuery,
    strength: Annotated[float, Query(description="0 is the picture itself, 1 the full style.")] = 1.0,
    strokes: Annotated[float, Query(description="Amount of strokes in flat areas, 0 to 2.")] = 1.0,
    stroke_size: Annotated[float, Query(description="Size of the strokes, 0.5 to 3.")] = 1.0,
    seed: Annotated[int, Query(description="Another seed gives other strokes.")] = 0,
    preserve_color: Annotated[bool, Query(description="Keep the colors of the picture.")] = False,
) -> StyleSettings:
    """Return the style settings that a query asks for."""
    return StyleSettings(tuple(style), strength, strokes, stroke_size, seed, preserve_color)


SettingsQuery = Annotated[StyleSettings, Depends(settings_of)]
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/*", "multipart/form-data")
        },
    }
}
CLIP_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("video/*", "multipart/form-data")
        },
    }
}
PICTURES: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in SUFFIXES}}}


def create_app(service: Service, access: Access, *, camera_fps: float = 10.0) -> Any:
    """Return the ASGI application around an open service, with its guard."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(asyncio.to_thread(service.warm_up))
        yield
        service.closing.set()
        await warming

    app = FastAPI(
        title="mst serve",
        version=__version__,
        description="Pictures, videos and cameras in the style of any painting.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        lifespan=lifespan,
    )
    problems.install(app)
    for add in (_page_routes, _state_routes, _picture_routes, _clip_routes, _job_routes):
        add(app, service)
    camera_route(app, service, camera_fps)
    return Guard(app, access, service.limits.head_bytes)


def _page_routes(app: FastAPI, service: Service) -> None:
    def answer(name: str, kind: str) -> Callable[[], Any]:
        async def file() -> FileResponse:
            return FileResponse(PAGE / name, media_type=kind, headers={"Cache-Control": "no-cache"})

        return file

    for path, (name, kind) in FILES.items():
        app.add_api_route(path, answer(name, kind), include_in_schema=False)

    @app.get("/example.jpg", include_in_schema=False)
    async def example() -> FileResponse:
        photograph = next(path for path in shipped_photographs() if path.name == EXAMPLE)
        return FileResponse(photograph, media_type="image/jpeg")


def _state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["state"])
    async def healthz() -> dict[str, str]:
        """Answer as long as the service runs."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz", tags=["state"], responses={503: {}})
    async def readyz() -> dict[str, str]:
        """Answer 200 when the model is warm and there is room in the queue, else 503."""
        if not service.ready:
            raise Refused(503, "the model is not ready, or the queue is full", retry=2)
        return {"status": "ready"}

    @app.get("/metrics", tags=["state"])
    async def metrics() -> PlainTextResponse:
        """Return counts as Prometheus text."""
        return PlainTextResponse(service.metrics())

    @app.get("/v1/styles", tags=["styles"])
    async def styles() -> dict[str, Any]:
        """List the styles: those that are shipped with the model, then those uploaded."""
        manifest = service.stylizer.manifest
        shipped = {style.name for style in service.stylizer.styles()}
        found = await asyncio.to_thread(service.styles)
        listed = [
            {"id": each, "name": style.name, "shipped": each in shipped} for each, style in found.items()
        ]
        return {
            "model": manifest.name,
            "device": service.stylizer.device,
            "strokes": bool(manifest.canvas_bands),
            "styles": listed,
        }

    @app.post("/v1/styles", status_code=201, tags=["styles"], openapi_extra=PICTURE_BODY)
    async def add_style(
        request: Request, name: Annotated[str, Query(max_length=80)] = "uploaded"
    ) -> dict[str, str]:
        """Make a style of a picture. Its id is a hash of the picture; it is kept for an hour after its last
        use."""
        data = await read_picture(request, service.limits)
        plain = "".join(letter for letter in name if letter.isprintable()) or "uploaded"
        identity, style = await service.in_line(service.add_style, data, plain)
        return {"id": identity, "name": style.name}


def _picture_routes(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/images",
        tags=["pictures"],
        response_class=Response,
        responses=PICTURES,
        openapi_extra=PICTURE_BODY,
    )
    async def images(request: Request, settings: SettingsQuery, size: SizeQuery = "") -> Response:
        """Stylize a picture. ``Accept`` chooses JPEG, PNG or WebP."""
        suffix, kind = _wanted(request)
        data = await read_picture(request, service.limits)
        content = await service.in_line(service.stylize, data, settings, size, suffix)
        png = content.startswith(b"\x89PNG")
        return Response(content, media_type=kind or ("image/png" if png else "image/jpeg"))

    @app.post(
        "/v1/sheets",
        tags=["pictures"],
        responses={200: {"content": {NDJSON: {}, "image/jpeg": {}}}},
        openapi_extra=PICTURE_BODY,
    )
    async def sheets(
        request: Request,
        style: Annotated[list[str] | None, Query(description="Ids of styles. Default: all.")] = None,
        size: Annotated[int, Query(ge=32, le=LARGEST_CELL, description="Long side of each picture.")] = CELL,
    ) -> Response:
        """Show a picture in several styles. One line of JSON for each as soon as it is made: ``{"style": ID,
        "image": BASE64 of a JPEG}``; with ``Accept: image/jpeg`` (or png, webp) one labeled sheet."""
        data = await read_picture(request, service.limits)
        known = await asyncio.to_thread(service.styles)
        chosen = {identity: StyleSettings((identity,)) for identity in (style or known)}
        for identity in chosen:
            service.style(identity)
        if "image/" in request.headers.get("accept", ""):
            suffix, kind = _wanted(request)
            named = {service.style(identity).name: settings for identity, settings in chosen.items()}
            content = await service.in_line(service.sheet, data, named, size, suffix or ".jpg")
            return Response(content, media_type=kind or "image/jpeg")
        image = await service.in_line(service.small, data, size)

        async def lines() -> AsyncIterator[str]:
            for identity, settings in chosen.items():
                try:
                    cell = await service.in_line(partial(service.stylize_small, image, settings))
                except (MstError, Refused) as error:
                    yield json.dumps({"style": identity, "error": str(error)}) + "\n"
                    return
                yield _line({"style": identity}, service.encode(cell))

        return StreamingResponse(lines(), media_type=NDJSON)


def _clip_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/clips", status_code=201, tags=["videos"], openapi_extra=CLIP_BODY)
    async def clips(request: Request) -> dict[str, Any]:
        """Upload a clip, for stills and videos of it. It is kept for an hour after its last use."""
        service.library.require_space()
        return await _new_clip(request, service)

    @app.get("/v1/clips/{identity}/frame", tags=["videos"], response_class=FileResponse)
    async def frame(identity: str) -> FileResponse:
        """Return the first frame of an uploaded clip as JPEG."""
        return FileResponse(service.library.clip(identity).with_name(FIRST_FRAME), media_type="image/jpeg")

    @app.post("/v1/clips/{identity}/previews", tags=["videos"])
    async def previews(
        identity: str,
        settings: SettingsQuery,
        time: Annotated[list[float], Query(description="Seconds from the beginning; repeat it.")],
        size: SizeQuery = "",
        deflicker: DeflickerQuery = False,
    ) -> Response:
        """Return stills of the result, exactly as the video will show them: one line of JSON for each."""
        if len(time) > service.limits.previews or not all(map(math.isfinite, time)):
            raise InvalidArgument(field="time", problem=f"give 1 to {service.limits.previews} finite times")
        times = sorted(time)
        path = service.library.clip(identity)
        made = await service.with_clip(
            service.previews, path, list(map(Fraction, times)), settings, size, deflicker
        )
        lines = [_line({"time": each}, still) for each, still in zip(times, made, strict=True)]
        return Response("".join(lines), media_type=NDJSON)

    @app.delete("/v1/clips/{identity}", status_code=204, tags=["videos"])
    async def remove_clip(identity: str) -> None:
        """Delete an uploaded clip."""
        path = service.library.clip(identity)
        if service.jobs.in_use(path.parent):
            raise Refused(409, "a video is being made of this clip", "cancel it first")
        service.library.discard(path)


def _job_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/videos", status_code=202, tags=["videos"], openapi_extra=CLIP_BODY)
    async def videos(
        request: Request,
        settings: SettingsQuery,
        size: SizeQuery = "",
        deflicker: DeflickerQuery = False,
        clip: Annotated[str, Query(description="Id of an uploaded clip, in place of a body.")] = "",
    ) -> Response:
        """Stylize a clip as a job; ``Location`` is the address of its description."""
        service.plan(settings)
        identity = clip or (await _new_clip(request, service))["id"]
        job = await asyncio.to_thread(service.add_job, identity, settings, size, deflicker)
        location = {"Location": f"/v1/jobs/{job.id}"}
        return JSONResponse(job.report(0.0), 202, location)

    @app.get("/v1/jobs/{identity}", tags=["videos"])
    async def job(identity: str) -> dict[str, Any]:
        """Return state, progress and time left of a job."""
        return service.jobs.get(identity).report(service.jobs.rate(identity))

    @app.get("/v1/jobs/{identity}/events", tags=["videos"], response_class=StreamingResponse)
    async def events(identity: str) -> StreamingResponse:
        """Stream the same as server-sent events, until the job is finished."""
        service.jobs.get(identity)

        async def stream() -> AsyncIterator[str]:
            while not service.closing.is_set():
                try:
                    found = service.jobs.get(identity)
                except Refused:
                    return
                yield f"data: {json.dumps(found.report(service.jobs.rate(identity)))}\n\n"
                if found.state in FINISHED:
                    return
                await asyncio.sleep(EVENT_SECONDS)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/v1/jobs/{identity}/result", tags=["videos"], response_class=FileResponse)
    async def result(identity: str) -> FileResponse:
        """Return the finished video; parts of it with ``Range``."""
        return FileResponse(service.jobs.result(identity), media_type="video/mp4", filename=f"mst-{RESULT}")

    @app.delete("/v1/jobs/{identity}", status_code=204, tags=["videos"])
    async def remove(identity: str) -> None:
        """Cancel a job, and delete its result."""
        await asyncio.to_thread(service.jobs.remove, identity)


async def _new_clip(request: Request, service: Service) -> dict[str, Any]:
    path = service.library.new_clip()
    try:
        await save_clip(request, service.limits, path)
        service.library.require_space()
        facts = await service.with_clip(service.accept_clip, path)
    except BaseException:
        service.library.discard(path)
        raise
    return {"id": path.parent.name, **vars(facts)}


def _wanted(request: Request) -> tuple[str, str]:
    """Return suffix and media type of the first kind of picture that a request accepts; "" for any."""
    for kind in request.headers.get("accept", "*/*").split(","):
        name = kind.partition(";")[0].strip().lower()
        if name in SUFFIXES:
            return SUFFIXES[name], name
        if name in ("*/*", "image/*", ""):
            return "", ""
    raise Refused(406, "pictures come as image/jpeg, image/png or image/webp", "accept one of them")


def _line(values: dict[str, Any], jpeg: bytes) -> str:
    return json.dumps({**values, "image": base64.b64encode(jpeg).decode()}) + "\n"
