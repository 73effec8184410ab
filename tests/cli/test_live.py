"""``mst live`` from the command line: counts, ends, keys, the latency test, wrong usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner, Result

import mst_deploy as mst
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.cli import app
from mst_deploy.cli.live_keys import LiveKeys
from mst_deploy.errors import BackendError, InvalidArgument, MstError
from mst_deploy.images.files import load_image
from mst_deploy.video import live_displays
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.live_source import Picture
from tests.offsets import offsets
from tests.ports import free_port

TEST = "test:96x64@50"
FAKE = ("--model", "lite", "--backend", "fake", "--style", "udnie")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["live", *arguments])


def values(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def assert_exact(report: dict[str, Any]) -> None:
    assert report["in_flight"] == 0
    assert report["captured"] == report["stylized"] + sum(report["dropped"].values())
    for sink in report["sinks"].values():
        assert report["stylized"] == sink["written"] + sink["dropped"] + sink["in_flight"]


def test_to_a_file_and_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    report = values(run(TEST, str(path), "null", *FAKE, "--seconds", "1.2", "--json"))
    assert_exact(report)
    assert report["stylized"] > 0
    assert set(report["sinks"]) == {str(path), "null"}
    with av.open(path) as container:
        numbers = [read_counter(Picture(0.0, each).rgb()) for each in container.decode(video=0)]
    assert len(numbers) == report["sinks"][str(path)]["written"]
    assert None not in numbers
    assert all(after > before for before, after in pairwise(number or 0 for number in numbers))
    assert offsets(path, 50) == pytest.approx([0.0], abs=0.002), "the click of the first second"


def test_the_summary_is_for_people(small_clip: Path) -> None:
    result = run(str(small_clip), "null", *FAKE)
    assert result.exit_code == 0
    assert "12 frames captured" in result.stdout
    assert "0 unfinished" in result.stdout
    assert "null: " in result.stdout
    assert run(str(small_clip), "null", *FAKE, "--quiet").output == ""


def test_the_counter_is_read_back_from_every_kind_of_sink(tmp_path: Path) -> None:
    path, udp, page = str(tmp_path / "out.mkv"), f"udp://127.0.0.1:{free_port()}", f"mjpeg:{free_port()}"
    sinks = (path, udp, page)
    report = values(run(TEST, *sinks, *FAKE, "--seconds", "4", "--json", "--latency-test"))
    assert_exact(report)
    assert set(report["latency"]) == set(sinks)
    for name, read in report["latency"].items():
        assert read["read"] > 0, name
        assert read["unreadable"] == read["out_of_order"] == 0
    assert report["latency"][path]["read"] == report["sinks"][path]["written"]
    assert report["latency"][path]["delay_ms"]["p50"] is None
    for name in (udp, page):  # what a reader sees is later than what the sink has done
        assert report["latency"][name]["delay_ms"]["p99"] > report["age_at_inference_ms"]["p50"]


def test_a_rate_is_held_with_a_smaller_picture(tmp_path: Path) -> None:
    """The size of the file stays, whatever is painted."""
    path = tmp_path / "out.mkv"
    fast = ("--fps", "50000", "--no-audio", "--seconds", "1", "--json")
    report = values(run("test:640x360@25", str(path), *FAKE, *fast))
    assert (report["width"], report["height"]) == (320, 180)
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.width == 640
        assert not container.streams.audio
    fixed = ("--size", "200x100", "--sink-size", "100x50", "--seconds", "0.5", "--json", "--force")
    report = values(run("test:640x360@25", str(path), *FAKE, *fixed))
    assert (report["width"], report["height"], report["size_changes"]) == (200, 100, 0)
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.width == 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TEST, "null", *FAKE, "--max-fps", "0"), "max_fps must be above 0"),
        ((TEST, "null", *FAKE, "--similar", "300"), "similar is a level"),
        ((TEST, "null", *FAKE, "--threads", "2"), "threads has no effect on fake"),
        ((TEST, "null", *FAKE, "--control", "0.0.0.0:80"), "for this machine only"),
        ((TEST, "null", "--style", "udnie@3"), "no timeline"),
        ((TEST, "null", "--style", "udnie", "--fps", "25", "--size", "90"), "leave out one"),
        ((TEST, "null", "null", "--style", "udnie"), "given twice"),
        (("udp://127.0.0.1:9", "udp://127.0.0.1:9", *FAKE), "is the source"),
        ((TEST, "-", *FAKE, "--json"), "both write to the standard output"),
        ((TEST, "nowhere", "--style", "udnie"), "known are: window"),
        (("nowhere://x", "null", *FAKE), "known are: camera"),
        (("camera:0", "null", "--style", "udnie", "--latency-test"), "needs the source test"),
        ((TEST, "null", "--style", "udnie", "--latency-test"), "cannot read back from null"),
        ((TEST, "null", "--styles", "a,b,c,d,e,f,g,h,i,j"), "room for 9"),
        ((TEST, "null", *FAKE, "--fps", "0"), "above 0"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    error = run(*arguments).exception
    assert isinstance(error, InvalidArgument)
    assert said in str(error)


def test_a_source_and_a_style_must_be_named() -> None:
    for arguments in ((), (TEST, "null")):
        assert run(*arguments).exit_code == 2


def test_without_a_window_a_sink_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_displays, "find_player", lambda: None)
    assert "a window cannot be shown here" in str(run(TEST, "--style", "udnie").exception)


def test_a_sink_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    error = run(TEST, str(path), f"tcp://127.0.0.1:{free_port()}", *FAKE).exception
    assert isinstance(error, MstError)
    assert "other end listens" in str(error)
    assert not path.exists()


def test_a_model_that_fails_leaves_no_file_under_a_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first size is measured, before any thread is started."""

    def fail(self: object, *arguments: object) -> None:
        raise BackendError("the engine has one size")

    monkeypatch.setattr(FakeGenerator, "__call__", fail)
    path = tmp_path / "out.mp4"
    before = set(threading.enumerate())
    for more in ((), ("--fps", "25")):
        error = run(TEST, str(path), f"mjpeg:{free_port()}", *FAKE, *more).exception
        assert isinstance(error, BackendError)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= before


def test_control_over_http_while_it_runs() -> None:
    port = free_port()
    found: list[Any] = []

    def control() -> None:
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/live", timeout=10) as answer:
                    found.append(json.loads(answer.read()))
                return
            except OSError:
                time.sleep(0.02)

    thread = threading.Thread(target=control)
    thread.start()
    report = values(run(TEST, "null", *FAKE, "--seconds", "2", "--control", str(port), "--json"))
    thread.join()
    assert_exact(report)
    assert found[0]["styles"] == {"udnie": 1.0}
    assert found[0]["captured"] <= report["captured"]


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each key does to a pipeline that stands still."""
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with mst.open_live(TEST, style="udnie", styles=["zodiac"], model="lite", backend="fake") as live:
        keys = LiveKeys(live, ("udnie", "zodiac"), 0.0, said.append)

        def pressed(key: str) -> tuple[dict[str, float], float]:
            keys.press(key)
            now = time.monotonic()
            return live.active_style.weights(now), live.active_style.strength(now)

        assert pressed("2") == ({"zodiac": 1.0}, 1.0)
        assert pressed("3") == ({"zodiac": 1.0}, 1.0), "there is no third"
        assert pressed("m") == ({"zodiac": 0.5, "udnie": 0.5}, 1.0)
        assert pressed("1") == ({"udnie": 1.0}, 1.0)
        assert pressed("-") == ({"udnie": 1.0}, 0.9)
        assert pressed("0") == ({"udnie": 1.0}, 0.0)
        assert pressed("0") == ({"udnie": 1.0}, 0.9)
        assert pressed("+") == pressed("+") == ({"udnie": 1.0}, 1.0)
        assert [pressed("c") and live.pipeline.compare for _ in range(2)] == [True, False]
        assert [pressed("f") and live.pipeline.repeats.frozen for _ in range(2)] == [True, False]
        begun = time.monotonic()
        while live.stats().stylized == 0:
            assert time.monotonic() - begun < 60
            time.sleep(0.01)
        pressed("s")
        pressed("s")
        assert said == ["saved mst-001.png", "saved mst-002.png"]
        pressed("?")
        assert "keys: 1-9" in said[-1]
        assert read_counter(load_image(tmp_path / "mst-001.png")) is not None
        pressed("q")
    assert_exact(asdict(live.stats()))


def test_the_python_api(tmp_path: Path) -> None:
    """A style that was not read before is read while the old one goes on; a timeline can be assigned."""
    path = tmp_path / "out.mkv"
    with mst.open_live(TEST, str(path), style="udnie", model="lite", backend="fake", max_fps=25) as live:
        live.style("zodiac", fade=1000.0)
        assert live.active_style.weights(time.monotonic())["udnie"] > 0.9
        live.style("the-kiss", strength=0.5)
        assert live.active_style.weights(time.monotonic()) == {"the-kiss": 1.0}
        live.active_style = mst.Timeline((mst.StyleKey("udnie"),), (mst.StrengthKey(0.25),))
        assert live.active_style.strength(time.monotonic()) == 0.25
        with pytest.raises(InvalidArgument, match="nobody"):
            live.style("nobody")
        begun = time.monotonic()
        while live.stats().stylized < 3:
            assert time.monotonic() - begun < 60
            time.sleep(0.01)
    report = live.stats()
    assert_exact(asdict(report))
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == report.sinks[str(path)].written
    with (
        pytest.raises(mst.OutputError, match="other end listens"),
        mst.open_live(TEST, f"tcp://127.0.0.1:{free_port()}", style="udnie", model="lite", backend="fake"),
    ):
        pass


def test_list() -> None:
    result = run("--list")
    assert result.exit_code == 0
    assert result.stdout
    assert isinstance(json.loads(run("--list", "--json").stdout)["devices"], list)


def started(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mst_deploy", "live", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_order(tmp_path: Path, number: int) -> None:
    path = tmp_path / "out.mp4"
    process = started(TEST, str(path), *FAKE, "--json")
    interrupted = tmp_path / "out.interrupted.mp4"
    begun = time.monotonic()
    while not interrupted.exists() or interrupted.stat().st_size < 3000:
        assert process.poll() is None
        assert time.monotonic() - begun < 90
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    report = json.loads(output)
    assert_exact(report)
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == report["sinks"][str(path)]["written"]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_keys_change_the_style_and_end(tmp_path: Path) -> None:
    """In a terminal: 0 shows the source, so the picture is that of the test; q ends."""
    import pty
    import select

    master, terminal = pty.openpty()
    path = tmp_path / "out.mkv"
    styles = ("--styles", "udnie,zodiac", *FAKE[:4])
    process = started(TEST, str(path), *styles, "--json", stdin=terminal, stderr=terminal)
    os.close(terminal)
    shown = ""

    def wait_for(text: str) -> None:
        nonlocal shown
        begun = time.monotonic()
        while text not in shown:
            assert time.monotonic() - begun < 90, shown
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 4096).decode()

    wait_for("keys: 1-9")
    wait_for(", delay ")  # said as soon as a frame was written
    os.write(master, b"20")  # at once
    os.write(master, b"\x1b[3~")  # the key Delete, which is not a 3
    shown = ""
    wait_for(" fps at 96x64")
    shown = ""
    wait_for(" fps at 96x64")
    os.write(master, b"q")
    output, _ = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0
    assert_exact(json.loads(output))
    with av.open(path) as container:
        frames = [each.to_ndarray(format="rgb24") for each in container.decode(video=0)]
    # The first column of the counter is white above black; the fake model inverts it.
    assert frames[0][8, 2].mean() < 64
    assert frames[-1][8, 2].mean() > 192
