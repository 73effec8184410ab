"""Sound of live video: its clock, gaps and lateness, and clicks against the frame counter of the pictures."""

from __future__ import annotations

from io import BytesIO
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from mst_deploy.video.capture import clicks, open_live_source
from mst_deploy.video.live_sound import LATE, RATE, Sound, SoundEncoder, SourceClock
from mst_deploy.video.live_source import CaptureOptions

PIECE = 960  # 20 ms


def test_irregular_arrival_moves_nothing() -> None:
    """Frames of 25 a second, up to 300 ms late, from a source whose clock runs 1 in 10,000 fast."""
    rng = np.random.default_rng(0)
    clock, errors = SourceClock(), []
    for number in range(2000):
        sent = 100 + number / 25 * (1 - 1e-4)
        delay = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
        captured = clock.captured(number / 25, sent + delay)
        assert captured <= sent + delay + 1e-9, "not before it came"
        if number > 50:
            errors.append(captured - sent)
            assert clock.at(number / 25) == captured
    assert max(np.abs(errors)) < 0.001


def test_a_source_that_begins_anew_or_pauses() -> None:
    clock = SourceClock()
    assert clock.at(5.0) is None
    for number in range(100):
        clock.captured(1000 + number / 25, number / 25)
    assert clock.captured(0.0, 4.0) == pytest.approx(4.0), "times that jump back"
    assert clock.captured(500.0, 4.04) == pytest.approx(4.04), "and forward"
    assert clock.captured(500.04, 4.08 + LATE + 1) == pytest.approx(4.08 + LATE + 1), "a pause"


def encoded_clicks(pieces: list[Sound], seconds: float) -> list[float]:
    """Encode the captured sound with pictures of 25 a second; return the times of clicks in seconds."""
    file = BytesIO()
    zero = 50.0
    waiting = list(pieces)
    with av.open(file, "w", format="matroska") as container:
        encoder = SoundEncoder(container)
        for number in range(round(seconds * 25)):
            now = number / 25
            while waiting and waiting[0].captured <= zero + now + 0.1:  # comes 100 ms ahead
                encoder.hear(waiting.pop(0))
            container.mux(list(encoder.packets_until(now, zero + now)))
        container.mux(list(encoder.rest(seconds, zero + seconds)))
    file.seek(0)
    found: list[float] = []
    with av.open(file, "r") as recorded:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for frame in recorded.decode(audio=0):
            for piece in resampler.resample(frame):
                loud = np.flatnonzero(np.abs(piece.to_ndarray()[0]) > 0.05)
                times = (piece.time or 0.0) + loud / RATE
                found += [time for time in times[:1] if not found or time - found[-1] > 0.5]
    return found


def pieces_of(seconds: float, drift: float = 0.0) -> list[Sound]:
    return [
        Sound(50.0 + at / RATE * (1 + drift), clicks(at, at + PIECE))
        for at in range(0, round(seconds * RATE), PIECE)
    ]


def test_sound_keeps_its_time() -> None:
    np.testing.assert_allclose(encoded_clicks(pieces_of(3.5), 3.5), [1, 2, 3], atol=0.002)


@pytest.mark.parametrize("with_sound", [True, False])
def test_no_picture_waits_for_its_sound(with_sound: bool) -> None:
    """A multiplexer sends a picture when it has a packet of sound after it: with sound that comes 200 ms
    ahead, and without any sound for longer than half a second."""
    waiting, newest = pieces_of(3.0) if with_sound else [], -1.0
    with av.open(BytesIO(), "w", format="matroska") as container:
        encoder = SoundEncoder(container)
        for number in range(50):
            now = number / 25
            while waiting and waiting[0].captured <= 50.0 + now + 0.2:
                encoder.hear(waiting.pop(0))
            for packet in encoder.packets_until(now, 50.0 + now):
                newest = max(newest, float(packet.pts * packet.time_base))
            if with_sound or now > 0.6:
                assert newest > now


def test_a_gap_becomes_silence_and_late_sound_is_left_out() -> None:
    """No sound from 0.9 to 2.4 s, and a source that then repeats half a second."""
    pieces = [piece for piece in pieces_of(5.5) if not 0.9 <= piece.captured - 50 < 2.4]
    again = [piece for piece in pieces if 2.6 <= piece.captured - 50 < 3.1]
    at = pieces.index(again[-1]) + 1
    found = encoded_clicks([*pieces[:at], *again, *pieces[at:]], 5.5)
    np.testing.assert_allclose(found, [3, 4, 5], atol=0.002)


def test_a_clock_that_runs_fast_is_followed() -> None:
    """1 in 150 would be 40 ms after 6 s; sound is never off by more than 10 ms."""
    found = encoded_clicks(pieces_of(6.5, drift=1 / 150), 6.5)
    np.testing.assert_allclose(found, np.arange(1, 7) * (1 + 1 / 150), atol=0.012)


def test_sound_of_a_file_is_read_ahead_of_its_pictures(small_clip: Path) -> None:
    pieces: list[Sound] = []
    with open_live_source(str(small_clip), CaptureOptions(on_sound=pieces.append)) as source:
        assert source.info.audio
        first = next(pictures := source.pictures())
        assert pieces[-1].captured > first.captured
        (last,) = islice(pictures, 4, 5)
        assert pieces[-1].captured > last.captured
        lengths = [piece.samples.shape[1] / RATE for piece in pieces]
        ends = np.cumsum([pieces[0].captured, *lengths])[1:-1]
        np.testing.assert_allclose([piece.captured for piece in pieces[1:]], ends, atol=0.002)
        pictures.close()
    with open_live_source("test:96x64@50") as quiet:
        assert quiet.info.audio == ()


@pytest.mark.parametrize("rate", [25, 30])
def test_the_test_picture_clicks_at_whole_seconds(rate: int) -> None:
    pieces: list[Sound] = []
    with open_live_source(f"test:96x64@{rate}", CaptureOptions(on_sound=pieces.append)) as source:
        first = next(source.pictures())
    assert pieces[0].captured == pytest.approx(first.captured)
    wave = np.abs(pieces[0].samples[0])
    assert wave[: RATE // 100].max() > 0.4
    assert wave[RATE // 50 :].max() == 0
