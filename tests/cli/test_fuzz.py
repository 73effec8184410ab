"""A part of ``tests.fuzz``, which is a program for thousands of attempts."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz


@pytest.mark.slow
def test_damaged_files_and_wrong_options_end_in_a_result_or_in_words() -> None:
    reported: list[str] = []
    assert fuzz({"files": 20, "options": 20, "calls": 25}, 1, "fake", reported.append) == []
    assert len(reported) == 3
    assert "'0'" in reported[0] and "'1'" in reported[0]  # noqa: PT018
