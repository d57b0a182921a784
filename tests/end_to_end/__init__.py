"""Whole kiosks. What helpers assert is told as fully as what tests assert."""

import pytest

pytest.register_assert_rewrite("tests.end_to_end.judge", "tests.end_to_end.storm")
