"""The camera of a browser: pictures come over a WebSocket, the newest is stylized and goes back.

Each message from the browser is 8 bytes of its own clock (a little-endian double) and a JPEG picture; each
message to it is the time of the picture that was stylized, and the result. So the browser knows the whole
delay exactly, and a picture that was passed over costs it nothing.
"""

from __future__ import annotations

import asyncio
import io
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass

import cv2
import numpy as np

from mst_deploy.backends import StylizeBackend
from mst_deploy.errors import InputError
from mst_deploy.images.alpha import Image
from mst_deploy.pipeline.live import LivePipeline
from mst_deploy.pipeline.live_counts import LiveReport
from mst_deploy.pipeline.live_size import SizePolicy, sizes_for
from mst_deploy.pipeline.live_style import LiveStyle
from mst_deploy.pipeline.slots import Slot
from mst_deploy.serve.limits import Limits
from mst_deploy.styles.plan import StylePlan
from mst_deploy.video.info import Frame
from mst_deploy.video.live_source import Picture, SinkClosed

HEAD = struct.Struct("<d")
QUALITY = 80  # of the JPEG pictures that are sent
KEPT = 64  # times of pictures under way


@dataclass(frozen=True)
class JpegPicture(Picture):
    """A picture whose content is JPEG, decoded only if its turn comes."""

    def rgb(self) -> Image:
        """Decode to (H, W, 3) uint8 RGB. Raises InputError."""
        pixels = cv2.imdecode(np.frombuffer(self.content, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise InputError("a picture of the camera is damaged")
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def jpeg_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Return (width, height) from the header of a JPEG picture. Raises InputError for what is refused."""
    from PIL import Image as pillow

    try:
        with pillow.open(io.BytesIO(data), formats=("JPEG",)) as header:
            width, height = header.size
    except Exception as error:  # damaged files raise whatever the parser stumbles over
        raise InputError("the camera must send JPEG pictures") from error
    if max(width, height) > limits.camera_side or min(width, height) < 2:
        raise InputError(f"the camera sends {width}x{height} pixels; a side may have {limits.camera_side}")
    return width, height


class CameraSession:
    """Stylizes the pictures of one camera until it is closed."""

    def __init__(
        self,
        backend: StylizeBackend,
        plan: StylePlan,
        size: tuple[int, int],
        fps: float,
        send: Callable[[bytes], Awaitable[None]],
        limits: Limits,
    ) -> None:
        """``size`` is that of the camera's pictures; they are stylized at one at which ``fps`` can be held.

        ``send`` is called in the present event loop.
        """
        self.limits, self.send, self.loop = limits, send, asyncio.get_running_loop()
        self.arrived: Slot[JpegPicture] = Slot()
        self.stamps: OrderedDict[float, float] = OrderedDict()
        self.lock = threading.Lock()
        self.live = LivePipeline(
            self._pictures,
            {"page": self},
            backend,
            LiveStyle.of(plan, time.monotonic()),
            size,
            policy=SizePolicy(sizes_for(*size, least=120), fps),
        )

    def put(self, message: bytes) -> None:
        """Take a message of the browser. Raises InputError."""
        if not HEAD.size < len(message) <= self.limits.camera_bytes:
            raise InputError("a picture of the camera is empty or too large")
        (stamp,), data = HEAD.unpack_from(message), message[HEAD.size :]
        jpeg_size(data, self.limits)
        captured = time.monotonic()
        with self.lock:
            self.stamps[captured] = stamp
            while len(self.stamps) > KEPT:
                self.stamps.popitem(last=False)
        self.arrived.put(JpegPicture(captured, data))

    def change(self, plan: StylePlan) -> None:
        """Use another style from the next picture on."""
        self.live.active_style = LiveStyle.of(plan, time.monotonic())

    def run(self) -> LiveReport:
        """Stylize until :meth:`close`; to be called in a thread of its own. Raises MstError."""
        return self.live.run()

    def close(self) -> None:
        """Let :meth:`run` return."""
        self.live.stop()
        self.arrived.close()

    def _pictures(self) -> Generator[Picture, None, None]:
        while (picture := self.arrived.take(self.live.stopping.is_set)) is not None:
            self.arrived.finish()
            yield picture

    # The sink

    def write(self, frame: Frame) -> None:
        """Send a stylized picture; wait until it is on its way."""
        assert frame.captured is not None
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        if not done:
            raise InputError("a picture cannot be written as JPEG")
        with self.lock:
            stamp = self.stamps.pop(frame.captured, float("nan"))
        sent = asyncio.run_coroutine_threadsafe(self._send(HEAD.pack(stamp) + data.tobytes()), self.loop)
        try:
            sent.result(self.limits.stalled_seconds)
        except Exception as error:  # the browser is gone, or too slow
            sent.cancel()
            raise SinkClosed("the browser takes no more pictures") from error

    async def _send(self, message: bytes) -> None:
        await self.send(message)

    def finish(self) -> None:
        """Do nothing: every picture is sent at once."""

    def abandon(self, error: BaseException) -> None:
        """Do nothing: every picture is sent at once."""
