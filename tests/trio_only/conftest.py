"""What only native trio can test, run once, under pytest-trio."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "trio"
