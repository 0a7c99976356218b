"""Limits on the scores of a stage, which a run has to meet."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from volflow.core.stage import Stage


class Limit(BaseModel):
    """The range that a score must be in."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )

    minimum: Annotated[float | None, Field(alias="min")] = None
    """The smallest value that is accepted."""
    maximum: Annotated[float | None, Field(alias="max")] = None
    """The largest value that is accepted."""

    def unmet(self, name: str, value: float | None) -> list[str]:
        """The requirements that a value does not meet, one sentence each."""
        if value is None:
            return [f"{name} could not be computed, but a limit is set for it"]
        sentences = []
        if self.minimum is not None and value < self.minimum:
            sentences.append(f"{name} is {value:.4g}, and at least {self.minimum:g} is required")
        if self.maximum is not None and value > self.maximum:
            sentences.append(f"{name} is {value:.4g}, and at most {self.maximum:g} is required")
        return sentences


class Limited(Stage):
    """A stage whose scores, listed in `metrics`, may be given limits."""

    metrics: ClassVar[tuple[str, ...]] = ()

    require: Annotated[dict[str, Limit], Field(default_factory=dict)]
    """Limits by score, `{vi: {max: 1.0}}`; a run whose score is beyond one ends with a failing exit
    code."""

    @field_validator("require")
    @classmethod
    def _check_names(cls, given: dict[str, Limit]) -> dict[str, Limit]:
        for name in given:
            if name not in cls.metrics:
                close = difflib.get_close_matches(name, cls.metrics, n=1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                known = ", ".join(cls.metrics)
                raise ValueError(f"there is no score '{name}'{hint} (scores: {known})")
        return given

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"require"})  # limits do not change a result

    def value(self, result: Mapping[str, Any], name: str) -> float | None:
        """The score of that name in a result; None if it could not be computed."""
        value: float | None = result[name]
        return value

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return [
            sentence
            for name, limit in self.require.items()
            for sentence in limit.unmet(name, self.value(result, name))
        ]
