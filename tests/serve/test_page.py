"""The page in a real browser, with its fake camera: what a visitor clicks, and what is seen then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.images.files import save_image
from tests.clips import Clip, write_clip
from tests.pictures import picture
from tests.serve.browser import Browser, chromium
from tests.serve.running import Running

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium"),
]
MEAN = """
((source, width, height) => {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, width, height);
  const values = context.getImageData(0, 0, width, height).data, sums = [0, 0, 0];
  for (let at = 0; at < values.length; at += 4) for (let c = 0; c < 3; c += 1) sums[c] += values[at + c];
  return sums.map((sum) => sum / (width * height));
})"""
OWN_CAMERA = f"""
(async () => {{
  const video = document.createElement("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({{ video: true }});
  await video.play();
  const mean = {MEAN}(video, 64, 48);
  video.srcObject.getTracks().forEach((track) => track.stop());
  return mean;
}})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with (
        Running(tmp_path_factory.mktemp("files")) as service,
        Browser(tmp_path_factory.mktemp("profile")) as browser,
    ):
        browser.open(f"{service.url}/")
        browser.until("document.querySelectorAll('.tile').length === 12")
        yield browser
        assert browser.messages == []  # of the console
        assert service.end() == 0


def close(found: Any, expected: Any, distance: float = 14.0) -> bool:
    return all(abs(a - b) < distance for a, b in zip(found, expected, strict=True))


def test_two_clicks_show_the_stylized_camera(page: Browser) -> None:
    """The fake model inverts colors, so the mean of what is shown is the negative of the camera's."""
    page.click("#camera")
    page.until("Number(document.getElementById('live').dataset.shown) > 2")
    page.click("[data-style=zodiac]")
    shown = page.value("Number(document.getElementById('live').dataset.shown)")
    page.until(f"Number(document.getElementById('live').dataset.shown) > {shown + 3}")
    camera = page.value(OWN_CAMERA)
    assert max(camera) - min(camera) > 30  # or its negative would prove nothing
    assert close(page.value(f"{MEAN}(document.getElementById('live'), 64, 48)"), [255 - c for c in camera])
    page.until("document.getElementById('live-facts').textContent.includes('pictures a second')")
    assert page.value("document.getElementById('command').textContent") == (
        "mst live camera window --style zodiac"
    )
    page.click("#stop")


def test_a_picture_is_shown_in_all_styles_and_compared(page: Browser, tmp_path: Path) -> None:
    save_image(tmp_path / "photo.png", picture(160, 120, 0))
    before = page.value("Number(document.body.dataset.rendered || 0)")
    page.choose_file("#file", tmp_path / "photo.png")
    page.until(f"Number(document.body.dataset.rendered || 0) > {before}")
    page.until("document.querySelectorAll('.tile[data-own]').length === 12")
    means = [page.value(f"{MEAN}(document.getElementById('{name}'), 64, 48)") for name in ("before", "after")]
    assert close(means[1], [255 - c for c in means[0]])
    tile = page.value(f"{MEAN}(document.querySelector('[data-style=udnie] img'), 64, 48)")
    assert close(tile, means[1])
    page.value(
        "(() => { const e = document.getElementById('strength'); e.value = 0;"
        "e.dispatchEvent(new Event('input')); })()"
    )
    page.until(f"Number(document.body.dataset.rendered) > {before + 1}")
    page.until(f"Math.abs({MEAN}(document.getElementById('after'), 64, 48)[0] - {means[0][0]}) < 14")
    page.value("document.querySelector('.tile[aria-checked=true]').focus()")
    chosen = page.value("document.querySelector('.tile[aria-checked=true]').dataset.style")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight")
    assert page.value("document.querySelector('.tile[aria-checked=true]').dataset.style") != chosen


def test_a_clip_is_rendered_with_progress_to_a_video(page: Browser, tmp_path: Path) -> None:
    page.choose_file("#file", write_clip(tmp_path / "clip.mp4", Clip(frames=12)))
    page.until("!document.getElementById('clip-actions').hidden")
    page.value("document.getElementById('times').value = '0.1'")
    page.click("#stills")
    page.until("document.querySelectorAll('#still-list img').length === 1")
    page.click("#render")
    page.until("!document.getElementById('download').hidden")
    assert page.value("document.getElementById('progress').value") == 1


def test_everything_has_a_name_and_fits_a_phone(page: Browser) -> None:
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    wanted = {"button", "slider", "checkbox", "textbox", "radio", "combobox", "image"}
    seen = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in wanted]
    assert len(seen) > 20
    assert [node["nodeId"] for node in seen if not node.get("name", {}).get("value")] == []
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    page.until("document.documentElement.scrollWidth <= 360")
