from tests.pins import pins  # noqa: F401
