from tests.pins import pins  # noqa: F401
from tests.soundcard import soundcard  # noqa: F401
