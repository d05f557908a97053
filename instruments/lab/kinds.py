"""What the sections of lab.yaml are made of: numbers and texts with their bounds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, le=1e6)]
TimeConstant = Annotated[float, Field(ge=1e-6, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Signed = Annotated[float, Field(ge=-1e6, le=1e6)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class MisplacedError(ValueError):
    """A mistake that shows only in several keys together, at the one where it can be mended."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path


def _resource_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Resources = Annotated[list[Text], BeforeValidator(_resource_list), Field(min_length=1)]
"""VISA resource strings in the order in which to open them; the last one is the instrument."""

DottedPath = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
