"""Names that are no regular files, and files that are not what they are called."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import av
import pytest

from mst_deploy.errors import InputError, OutputError
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.demuxing import is_pipe, is_sequence
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import open_writer
from tests.clips import probe, write_film

MST = f"{sys.executable} -m mst_deploy video"
OPTIONS = "-s zodiac --backend fake --force"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def film_clip(clip_folder: Path) -> Path:
    return write_film(clip_folder / "pipes.mkv", 25)


def same(source: Path, output: Path) -> None:
    before, after = probe(source), probe(output)
    assert after.times == before.times
    assert after.audio == before.audio


@pytest.mark.parametrize(
    "command",
    [
        f"mkfifo in && (cat film.mkv > in &) && {MST} in {OPTIONS} -o out.mkv",
        f"{MST} <(cat film.mkv) {OPTIONS} -o out.mkv",
        f"cat film.mkv | {MST} /dev/stdin {OPTIONS} -o out.mkv",
        f"{MST} /dev/stdin {OPTIONS} -o out.mkv < film.mkv",
        f"mkfifo pipe && (cat pipe > out.mkv &) && {MST} film.mkv {OPTIONS} -o pipe && test -p pipe",
        f"mkfifo p.mkv && (cat p.mkv > out.mkv &) && {MST} film.mkv {OPTIONS} -o p.mkv && test -p p.mkv",
        f"{MST} film.mkv {OPTIONS} -o >(cat > out.mkv); r=$?; sleep 1; exit $r",
        f"{MST} film.mkv {OPTIONS} -o /dev/stdout | cat > out.mkv",
        f"{MST} film.mkv {OPTIONS} -o /dev/stdout > out.mkv",
    ],
)
def test_pipes_as_the_shell_makes_them(command: str, film_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mkv").symlink_to(film_clip)
    done = shell(command, tmp_path)
    assert done.returncode == 0, done.stderr
    same(film_clip, tmp_path / "out.mkv")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_failing_job_leaves_the_pipe(film_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mkv").symlink_to(film_clip)
    reading = "mkfifo pipe && (head -c 10 pipe >/dev/null &)"
    done = shell(f"{reading} && {MST} film.mkv {OPTIONS} -o pipe --codec raw", tmp_path)
    assert done.returncode == 1
    assert "nobody reads pipe any more" in done.stderr
    assert "Traceback" not in done.stderr
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_files_that_must_be_written_back_and_forth_are_refused(small_clip: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.mp4")
    with (
        VideoReader(small_clip) as reader,
        pytest.raises(OutputError, match=r"\.mp4 files are not; .* ends in \.mkv"),
        open_writer(tmp_path / "out.mp4", reader.info, EncodeOptions()),
    ):
        pass
    assert is_pipe(tmp_path / "out.mp4")


def test_a_pipe_has_no_name_for_a_result(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    done = shell(f"{MST} in -s zodiac --backend fake", tmp_path)
    assert done.returncode == 2
    assert "name it with -o" in done.stderr


def test_the_null_device_takes_everything(film_clip: Path, tmp_path: Path) -> None:
    done = shell(f"{MST} {film_clip} {OPTIONS} -o /dev/null", tmp_path)
    assert done.returncode == 0, done.stderr
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.txt"])
def test_playlists_are_refused_and_not_followed(name: str, small_clip: Path, tmp_path: Path) -> None:
    for text in (
        f"ffconcat version 1.0\nfile '{small_clip}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{small_clip}\n#EXT-X-ENDLIST\n",
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="cannot read"):
            VideoReader(tmp_path / name)


def test_every_format_that_is_read_is_known() -> None:
    """A name that FFmpeg does not have would be a slip of the pen, but older builds lack new ones."""
    from mst_deploy.video.demuxing import FORMATS

    have = {each for name in av.formats_available for each in name.split(",")}
    assert {"mov", "matroska", "avi", "mpegts", "mpeg", "asf", "flv", "ogg", "gif", "mxf"} <= have
    assert not {"concat", "hls", "dash", "sdp", "rtsp", "lavfi", "image2"} & set(FORMATS.split(","))
    assert len(set(FORMATS.split(",")) & have) > 80


@pytest.mark.parametrize(
    "name", ["50% done.mp4", "50% deal.mkv", "a%20b.mp4", "12:30 x.mp4", "%d.mkv", "a:b.mp4"]
)
def test_a_file_that_exists_is_that_file(
    name: str, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_sequence(Path(name))
    Path(name).write_bytes(small_clip.read_bytes())
    for output in (Path("out.mp4"), Path(f"out {name}")):
        with (
            VideoReader(Path(name)) as reader,
            open_writer(output, reader.info, EncodeOptions()) as writer,
        ):
            for frame in reader:
                writer.write(frame)
        assert len(probe(tmp_path / output).times) == 12


def test_numbered_pictures_are_not_replaced_unasked(small_clip: Path, tmp_path: Path) -> None:
    command = f"{MST} {small_clip} -s zodiac --backend fake -o p/out%04d.png"
    assert shell(command, tmp_path).returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    assert len(before) == 12
    again = shell(command, tmp_path)
    assert again.returncode == 1
    assert "out0001.png already exists, and 11 more" in again.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()} == before
    shorter = shell(f"{command} --force --end 0.2", tmp_path)
    assert shorter.returncode == 0, shorter.stderr
    assert len(list((tmp_path / "p").iterdir())) == 6
    itself = shell(f"{MST} p/out%04d.png -s zodiac --backend fake -o p/out%04d.png --force", tmp_path)
    assert itself.returncode == 1
    assert "the input itself" in itself.stderr
