"""Limits on the scores of a stage: what a user requires before a run may be called good."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from volflow.core.stage import Stage


class Limit(BaseModel):
    """What a score must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float | None = None
    max: float | None = None

    def unmet(self, name: str, value: float | None) -> list[str]:
        """What a value lacks, one sentence each."""
        if value is None:
            return [f"{name} could not be computed, and a limit is set for it"]
        found = []
        if self.min is not None and value < self.min:
            found.append(f"{name} is {value:.4g}, and at least {self.min:g} is required")
        if self.max is not None and value > self.max:
            found.append(f"{name} is {value:.4g}, and at most {self.max:g} is required")
        return found


class Limited(Stage):
    """A stage whose scores, those of `metrics`, may be required to lie within limits."""

    metrics: ClassVar[tuple[str, ...]] = ()

    require: Annotated[dict[str, Limit], Field(default_factory=dict)]
    """Limits by score, `{vi: {max: 1.0}}`; a run whose score is beyond one ends with a failing exit
    code."""

    @field_validator("require")
    @classmethod
    def _of_scores_there_are(cls, given: dict[str, Limit]) -> dict[str, Limit]:
        for name in given:
            if name not in cls.metrics:
                close = difflib.get_close_matches(name, cls.metrics, n=1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                known = ", ".join(cls.metrics)
                raise ValueError(f"there is no score '{name}'{hint} (scores: {known})")
        return given

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"require"})  # a verdict, not a result

    def value(self, result: Mapping[str, Any], name: str) -> float | None:
        """The score of that name in a result; None if it could not be computed."""
        found: float | None = result[name]
        return found

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return [
            sentence
            for name, limit in self.require.items()
            for sentence in limit.unmet(name, self.value(result, name))
        ]
