"""Tests of timelines: parsing, files, and values at a time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from mst_deploy.styles.timeline_yaml import load_timeline
from mst_deploy.video.time_ranges import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("2.5", Fraction(5, 2)),
        ("01:30", 90),
        ("1:02:03.04", Fraction(372304, 100)),
        ("0.1", Fraction(1, 10)),
        ("00:10", 10),
        ("7200", 7200),
    ],
)
def test_times_are_exact(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:60", "1:2:3:4", "1:", ":5", "1e3", "٣", "nan"])
def test_bad_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="as a time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("wave.jpg", StyleKey("wave.jpg")),
        ("wave.jpg@00:10", StyleKey("wave.jpg", Fraction(10))),
        ("wave.jpg=0.7@2.5", StyleKey("wave.jpg", Fraction(5, 2), 0.7)),
        ("zodiac=3", StyleKey("zodiac", weight=3.0)),
        ("photo@2x.jpg", StyleKey("photo@2x.jpg")),  # a name, not a time
        ("a=b.jpg", StyleKey("a=b.jpg")),
        ("photo@2x.jpg@4", StyleKey("photo@2x.jpg", Fraction(4))),
    ],
)
def test_style_keys(text: str, key: StyleKey) -> None:
    assert StyleKey.parse(text) == key


@pytest.mark.parametrize("text", ["@5", "=2", "a=0", "a@1:99"])
def test_bad_style_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        StyleKey.parse(text)


@pytest.mark.parametrize("text", ["", "2", "-0.1", "half", "1@x", "nan", "inf"])
def test_bad_strengths_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        StrengthKey.parse(text)


def timeline(*styles: str, strength: tuple[str, ...] = ("1",), **others: Any) -> Timeline:
    return Timeline(tuple(map(StyleKey.parse, styles)), tuple(map(StrengthKey.parse, strength)), **others)


def test_styles_fade_from_key_to_key() -> None:
    """Worked out by hand: a at 2 s, b at 6 s, c at 8 s."""
    found = timeline("b@6", "a@2", "c@8")
    assert found.weights_at(Fraction(0)) == {"a": 1.0}
    assert found.weights_at(Fraction(2)) == {"a": 1.0}
    assert found.weights_at(Fraction(3)) == {"a": 0.75, "b": 0.25}
    assert found.weights_at(Fraction(6)) == {"b": 1.0}
    assert found.weights_at(Fraction(7)) == {"b": 0.5, "c": 0.5}
    assert found.weights_at(Fraction(9)) == {"c": 1.0}


def test_styles_of_one_moment_are_mixed_by_weight() -> None:
    found = timeline("a=3", "b=1", "b@10", "c@10")
    assert found.weights_at(Fraction(0)) == {"a": 0.75, "b": 0.25}
    assert found.weights_at(Fraction(5)) == {"a": 0.375, "b": 0.375, "c": 0.25}
    assert found.weights_at(Fraction(10)) == {"b": 0.5, "c": 0.5}


def test_weights_always_sum_to_one() -> None:
    found = timeline("a=3", "b=0.1", "c@1", "d=7@2.5", "e@2.5", "a@9")
    for tenth in range(120):
        assert sum(found.weights_at(Fraction(tenth, 10)).values()) == pytest.approx(1.0, abs=1e-12)


def test_strength_follows_its_keys() -> None:
    found = timeline("a", strength=("1@5", "0@1"))
    moments = [Fraction(half, 2) for half in range(14)]
    assert [found.strength_at(moment) for moment in moments] == [
        0,
        0,
        0,
        0.125,
        0.25,
        0.375,
        0.5,
        0.625,
        0.75,
        0.875,
        1,
        1,
        1,
        1,
    ]
    assert found.changes
    assert not found.always_full
    assert timeline("a").always_full


def test_contradictions_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="two values of style 'a' for the time 2 s"):
        timeline("a@2", "b@2", "a@2")
    with pytest.raises(InvalidArgument, match="two values of strength"):
        timeline("a", strength=("0", "1"))
    with pytest.raises(InvalidArgument, match="needs a mask"):
        timeline("a", background_style="b")
    with pytest.raises(InvalidArgument, match="no style"):
        Timeline(())


FULL = """
styles:
  - {style: wave.png, at: 0}
  - {style: zodiac, at: "00:10", weight: 2}
  - {style: udnie, at: 1:30}
strength:
  - {value: 0}
  - {value: 1, at: 2.5}
preserve_color: true
mask: masks/person.png
outside: the-scream
"""


def test_yaml_says_the_same_as_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "wave.png").touch()
    path = tmp_path / "timeline.yaml"
    path.write_text(FULL)
    assert load_timeline(path) == timeline(
        f"{tmp_path / 'wave.png'}@0",
        "zodiac=2@10",
        "udnie@90",
        strength=("0@0", "1@2.5"),
        preserve_color=True,
        mask=tmp_path / "masks/person.png",
        background_style="the-scream",
    )


def test_short_yaml(tmp_path: Path) -> None:
    path = tmp_path / "timeline.yaml"
    path.write_text("styles: zodiac\nstrength: 0.6\n")
    assert load_timeline(path) == timeline("zodiac", strength=("0.6",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("styles: [", "not valid YAML"),
        ("3", "'name: value' pairs"),
        ("strength: 1", "no entry 'styles'"),
        ("styles: []", "no style was given"),
        ("styles: zodiac\nspeed: 3", "'speed'; known are background_style, mask, outside"),
        ("styles: [{style: zodiac, when: 3}]", "'when'; known are at, style, weight"),
        ("styles: [{at: 3}]", "style must be a name"),
        ("styles: [{style: zodiac, at: soon}]", "'soon' as a time"),
        ("styles: [{style: zodiac, at: -1}]", "must not be negative"),
        ("styles: [{style: zodiac, at: .nan}]", "at must be"),
        ("styles: [{style: zodiac, weight: heavy}]", "weight must be a number"),
        ("styles: zodiac\nstrength: 2", "between 0 and 1"),
        ("styles: zodiac\nstrength: yes", "must be a number"),
        ("styles: zodiac\npreserve_color: 1", "true or false"),
        ("styles: zodiac\noutside: udnie", "needs a mask"),
        ("styles: !!python/object:os.system {}", "not valid YAML"),
    ],
)
def test_bad_yaml_is_reported(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "timeline.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_timeline(path)


def test_a_missing_yaml_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the timeline"):
        load_timeline(tmp_path / "no.yaml")


def test_a_style_that_is_a_file_has_the_name_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has the form of a weight or a time belongs to the name of a file that exists."""
    monkeypatch.chdir(tmp_path)
    for name in ("wave=2.png@10", "a=3"):
        Path(name).touch()
    assert StyleKey.parse("wave=2.png@10") == StyleKey("wave=2.png@10")
    assert StyleKey.parse("a=3@5") == StyleKey("a=3", Fraction(5))
    assert StyleKey.parse("a=4@5") == StyleKey("a", Fraction(5), 4.0)
