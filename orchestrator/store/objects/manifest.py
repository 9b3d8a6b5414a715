"""When is a checkpoint committed, and what does its manifest promise?

Rule: a checkpoint exists if and only if its manifest does. The manifest is created once, after
every file that it names, and never changed. It's self-contained: with it alone a reader knows
whether the files beside it are the ones that were saved.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.objects.layout import (
    CHANGED_SUFFIX,
    MANIFEST_SUFFIX,
    GenerationId,
    checkpoint_dir,
    checkpoint_name,
)
from orchestrator.vocabulary import Attempt, Generation

FORMAT = 2
"""Goes up when a reader of before would misread a manifest, not when fields are added: it ignores
those. 2 came with ``chain``; what has none is still written as 1.
"""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _Record(BaseModel):
    # Unknown keys are ignored: a manifest of a later version of ours stays readable
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileRecord(_Record):
    """One file of a checkpoint, as it was written."""

    name: str
    """Its name in the checkpoint's directory; never a path."""
    size_bytes: Count
    crc32c: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """Of the whole file, unmasked."""

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value or value in (".", "..") or "/" in value or "\\" in value or "\0" in value:
            raise ValueError("not a plain file name")
        return value


class ChainLink(_Record):
    """A save that another one stands on."""

    label: str
    """``a0001-g0001/NAME-11000``."""
    save_id: str
    """Its own: another save of that name is another link."""


class Manifest(_Record):
    """What a save promises about itself."""

    format: int = 1
    name: str
    """NAME, the source's own name without a step."""
    step: Count
    """Global step of the state, and of the step variable in the data."""
    attempt: Annotated[int, Field(ge=1)]
    generation: Annotated[int, Field(ge=1)]
    files: tuple[FileRecord, ...]
    """Every file of the checkpoint but this one."""
    save_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    """Unique to this save; tells the winner of a lost reply."""
    parent: str | None = None
    """Directory and name of the checkpoint that this state came from (``a0001-g0001/NAME-10000``),
    None at the run's start.
    """
    position: Count = 0
    """Batches that the whole group had consumed before the next step."""
    world_size: Annotated[int, Field(ge=1)] = 1
    step_key: str | None = None
    """Key in the bundle under which the global step stands, None where the graph has none."""
    training_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds of training since the run's first start, by the drivers' own monotonic clocks;
    ``keep_every_hours`` counts them.
    """
    created: float = 0.0
    """Unix seconds by the writer's clock; shown to people, never compared."""
    repairs: tuple[str, ...] = ()
    """What the saved ``.meta`` differs in from the source's, so that TensorFlow can import it."""
    edits: tuple[str, ...] = ()
    """What else it differs in, as the user asked."""
    source: str = ""
    """Fingerprint of the run's source."""

    chain: tuple[ChainLink, ...] = ()
    """For a save of changed rows: what it stands on, the full checkpoint first. Empty for a full
    one.
    """

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        return FileRecord(name=value, size_bytes=0, crc32c=0).name

    @model_validator(mode="after")
    def _known_to_earlier_versions(self) -> Self:
        if self.chain and self.format < 2:
            raise ValueError("changed rows in a manifest of format 1, which knows none")
        return self

    @property
    def prefix(self) -> str:
        """``NAME-11000``; ``NAME-11000.changed`` for changed rows."""
        whole = checkpoint_name(self.name, self.step)
        return whole + CHANGED_SUFFIX if self.chain else whole

    @property
    def label(self) -> str:
        """``a0001-g0001/NAME-11000``."""
        return f"{self.directory}/{self.prefix}"

    @property
    def file_name(self) -> str:
        """What the manifest's own file is called."""
        return self.prefix + MANIFEST_SUFFIX

    @property
    def directory(self) -> str:
        """``a0001-g0001``."""
        return checkpoint_dir(self.attempt, self.generation)

    @property
    def generation_id(self) -> GenerationId:
        """Attempt and generation, ordered."""
        return GenerationId(Attempt(self.attempt), Generation(self.generation))

    def to_bytes(self) -> bytes:
        """The manifest as it's stored."""
        return self.model_dump_json(indent=1).encode()


def read_manifest_bytes(data: bytes, shown: str) -> Manifest:
    """The manifest in ``data``.

    Args:
        shown: the file's URL, for messages.

    Raises:
        CorruptCheckpoint: truncated, no manifest, or of a later format.
    """
    remedy = "Use another checkpoint; `tfresume checkpoints RUN --verify` shows which are good"
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CorruptCheckpoint(
            f"{shown} isn't a manifest: {place + ': ' if place else ''}{first['msg']}",
            remedy=remedy,
        ) from error
    if manifest.format > FORMAT:
        raise CorruptCheckpoint(
            f"{shown} has format {manifest.format}, newer than this version's {FORMAT}",
            remedy="Upgrade tfresume",
        )
    return manifest
