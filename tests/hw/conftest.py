from tests.soundcard import soundcard  # noqa: F401
