"""The WebSocket of a camera: style settings come as JSON, pictures as they are in ``camera``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from mst_deploy.errors import InputError, InvalidArgument, MstError
from mst_deploy.pipeline.live_counts import LiveReport
from mst_deploy.serve.camera import HEAD, CameraSession, jpeg_size
from mst_deploy.serve.guard import SUBPROTOCOL
from mst_deploy.serve.service import Service
from mst_deploy.serve.style_settings import StyleSettings

REPORT_SECONDS = 1.0
REFUSED, TRY_LATER = 1008, 1013
"""Codes of closing a WebSocket (RFC 6455, and the registry of the protocol)."""


def camera_route(app: FastAPI, service: Service, fps: float) -> None:
    """Add ``/v1/camera`` to an application."""

    @app.websocket("/v1/camera")
    async def camera(socket: WebSocket) -> None:
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if service.cameras >= service.limits.cameras:
            await socket.close(TRY_LATER, f"{service.cameras} cameras are stylized already")
            return
        service.cameras += 1
        try:
            await _Connection(socket, service, fps).run()
        finally:
            service.cameras -= 1


class _Connection:
    """One browser, from its first settings to its end."""

    def __init__(self, socket: WebSocket, service: Service, fps: float) -> None:
        self.socket, self.service, self.fps = socket, service, fps
        self.settings: StyleSettings | None = None
        self.session: CameraSession | None = None
        self.running: asyncio.Future[LiveReport] | None = None
        self.sending = asyncio.Lock()

    async def run(self) -> None:
        reporter = asyncio.create_task(self._report())
        try:
            await self._receive()
        except WebSocketDisconnect:
            pass
        except MstError as error:
            await self._close(REFUSED, str(error))
        finally:
            reporter.cancel()
            if self.session is not None and self.running is not None:
                self.session.close()
                with contextlib.suppress(MstError):
                    await self.running

    async def _receive(self) -> None:
        limits = self.service.limits
        while not self.service.closing.is_set():
            try:
                message = await asyncio.wait_for(self.socket.receive(), limits.camera_silence)
            except TimeoutError:
                return await self._close(1000, f"no picture came for {limits.camera_silence:g} s")
            if message["type"] == "websocket.disconnect":
                return
            if self.running is not None and self.running.done():
                self.running.result()  # raises its error
                return await self._close(1000, "the camera has ended")
            if message.get("text") is not None:
                await self._change(message["text"])
            elif message.get("bytes"):
                await self._picture(message["bytes"])
        await self._close(1001, "the service ends")

    async def _change(self, text: str) -> None:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidArgument("style settings must be a JSON object") from None
        settings = StyleSettings.of(values)
        plan = await asyncio.to_thread(self.service.plan, settings)
        self.settings = settings
        if self.session is not None:
            self.session.change(plan)

    async def _picture(self, message: bytes) -> None:
        if self.settings is None:
            raise InputError("send style settings as JSON before the first picture")
        if self.session is None:
            plan = await asyncio.to_thread(self.service.plan, self.settings)
            size = jpeg_size(message[HEAD.size :], self.service.limits)
            self.session = CameraSession(
                self.service.live, plan, size, self.fps, self._send_bytes, self.service.limits
            )
            loop = asyncio.get_running_loop()
            self.running = loop.run_in_executor(self.service.camera_pool, self.session.run)
        self.session.put(message)

    async def _send_bytes(self, message: bytes) -> None:
        async with self.sending:
            await self.socket.send_bytes(message)

    async def _report(self) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the browser is gone
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                if self.session is not None:
                    async with self.sending:
                        await self.socket.send_text(json.dumps(_facts(self.session.live.report())))

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # closed already
            await self.socket.close(code, reason.encode()[:120].decode(errors="ignore"))


def _facts(report: LiveReport) -> dict[str, Any]:
    return {
        "captured": report.captured,
        "stylized": report.stylized,
        "dropped": sum(report.dropped.values()),
        "fps": round(report.fps, 2),
        "width": report.width,
        "height": report.height,
        "inference_ms": report.inference_ms,
        "age_ms": report.sinks["page"].age_ms,
    }
