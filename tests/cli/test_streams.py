"""Terminals and pipes that know ASCII only, and outputs that cannot be written to."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mst_deploy.cli.streams import escaped
from mst_deploy.images import save_image
from tests.pictures import picture

FAKE = ("--style", "udnie", "--backend", "fake")
ASCII = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
    "TERM": "dumb",
}


def mst(
    *arguments: object, cwd: Path, stdout: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    with open(stdout or os.devnull, "w") as file:  # noqa: PTH123 - a device
        return subprocess.run(
            [sys.executable, "-m", "mst_deploy", *map(str, arguments)],
            stdout=file if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            cwd=cwd,
            env={**os.environ, **settings},
            timeout=300,
            check=False,
        )


def test_names_that_a_terminal_cannot_show_are_escaped(small_clip: Path, tmp_path: Path) -> None:
    shutil.copy(small_clip, tmp_path / "日本.mp4")
    save_image(tmp_path / "é.png", picture(40, 30, 0))
    done = mst("video", "日本.mp4", *FAKE, cwd=tmp_path, **ASCII)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("日本-udnie.mp4")
    assert (tmp_path / "日本-udnie.mp4").exists()
    done = mst("image", "é.png", "é.png", *FAKE, "--json", cwd=tmp_path, **ASCII)
    assert json.loads(done.stdout)["outputs"] == ["é-udnie.png"]
    assert "nowhere" in mst("image", "nowhere-é.png", *FAKE, cwd=tmp_path, **ASCII).stderr
    assert "é-udnie.png already exists" in mst("image", "é.png", *FAKE, cwd=tmp_path, **ASCII).stderr


def test_what_cannot_be_encoded_is_escaped_as_in_json() -> None:
    codecs.register_error("mst.escape", escaped)
    text = "a–é😀\udcff"
    for encoding in ("ascii", "utf-8", "latin-1", "cp437"):
        encoded = f'"{text}"'.encode(encoding, "mst.escape")
        assert json.loads(encoded.decode(encoding)) == text
    assert "\udce6\udc97\udca5".encode("ascii", "mst.escape") == "日".encode()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_no_text_is_printed_somehow(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(40, 30, 0))
    broken = os.fsdecode(b"\xff\xfe.png")
    (tmp_path / "a.png").rename(tmp_path / broken)
    done = mst("image", broken, *FAKE, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["outputs"] == [os.fsdecode(b"\xff\xfe-udnie.png")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_output_that_is_full_is_one_line_and_the_result_is_kept(
    small_clip: Path, tmp_path: Path
) -> None:
    save_image(tmp_path / "a.png", picture(40, 30, 0))
    for command in (("image", "a.png", *FAKE), ("image", "a.png", *FAKE, "-f", "--json"), ("--version",)):
        done = mst(*command, cwd=tmp_path, stdout="/dev/full")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("mst: ")
        assert "No space left" in done.stderr
    assert (tmp_path / "a-udnie.png").exists()
    done = mst("video", small_clip, *FAKE, "-o", "-", cwd=tmp_path, stdout="/dev/full")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    done = mst("image", "nothing.png", *FAKE, cwd=tmp_path, stdout="/dev/full")
    assert (done.returncode, done.stderr) == (1, "mst: nothing.png does not exist; check the name\n")


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(40, 30, 0))
    for arguments in ((f"{'x' * 300}.png", *FAKE), ("a.png", *FAKE, "-o", f"{'x' * 300}.png")):
        done = mst("image", *arguments, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    done = mst("image", "a.png", "-s", "x" * 300, "--backend", "fake", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
