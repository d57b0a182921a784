"""flagd's evaluator behind the OpenFeature API: the only module that imports either.

Both are imported with this module, and this module only where there is a flag document to be judged.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from openfeature import api
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from agent.contract.signed import Refused

_DOMAIN: Final = "kiosk-recorder"


class Provider(AbstractProvider):
    """Answers from the flags of one document.

    The API calls these methods by keyword and takes every error for the default: the names of their parameters are
    part of the contract, and whoever asks has to look at `error_code`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.core = FlagdCore()

    def get_metadata(self) -> Metadata:
        return Metadata(name=_DOMAIN)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 (the API's)
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self.core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self.core.resolve_string_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self.core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self.core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self.core.resolve_object_value(flag_key, default_value, evaluation_context)


class Evaluator:
    """The API's one provider in this process, which knows one document at a time. May be used from every thread."""

    def __init__(self) -> None:
        self._provider = Provider()
        self._lock = threading.Lock()
        self._known: object = None
        api.set_provider_and_wait(self._provider, _DOMAIN)
        self._client = api.get_client(_DOMAIN)

    def evaluate(
        self, flags: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, str], key: str, context: Mapping[str, Any]
    ) -> dict[str, str]:
        """The values of all `flags` (texts; as flagd's JSON has them) for the kiosk `key`. Raises Refused (`unusable`).

        `defaults` are of the flags that are disabled, and of those that give no variant.
        """
        about = EvaluationContext(targeting_key=key, attributes=context)
        with self._lock:
            if self._known is not flags:
                # flagd-core renames keys in what it is given.
                self._provider.core.set_flags({"flags": {name: dict(flag) for name, flag in flags.items()}})
                self._known = flags
            return {name: self._value(name, defaults[name], about) for name in flags}

    def _value(self, name: str, default: str, about: EvaluationContext) -> str:
        details = self._client.get_string_details(name, default, about)
        if details.error_code is not None or details.reason == Reason.ERROR:
            raise Refused("unusable", f"{name} can't be evaluated: {details.error_message or details.error_code}")
        return details.value


evaluator: Final = Evaluator()
