"""The words that every room of the house uses: data that flows and the contracts it flows through.

Shapes: N photos, D feature width, K classes, n context tokens of width m, P candidates of
dimension d, H width of the text tower's state before its projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
State = dict[str, Any]  # flat: numpy arrays, ints, floats, strings, booleans


class Reason(Enum):
    """Why a run stopped; the value is the sentence shown to people."""

    FORWARDS = "the budget of forwards was spent"
    SECONDS = "the time limit was reached"
    STEPS = "the planned number of steps was done"
    PATIENCE = "validation accuracy had stopped rising"
    CONVERGED = "the search had converged: further steps would not move the prompt"
    DIVERGED = "every candidate of a step had a loss that is not a number"
    CLOSED_FORM = "the method needs no search"


@dataclass(frozen=True, eq=False)
class Features:
    """Photos after the image tower; knows nothing of files.

    ``vectors`` float32 (N, D) with rows of length 1, ``labels`` int64 (N,) into ``class_names``,
    ``fingerprint`` the content hash of photos + image tower + preprocessing.
    """

    vectors: Array
    labels: Array
    class_names: tuple[str, ...]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Step:
    """One completed step of a search, as journalled and shown."""

    step: int
    stage: str
    forwards: int
    seconds: float
    loss: float
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Result:
    """What a search leaves: the chosen point, why it stopped and what it cost.

    ``best`` float64 (d,), ``text_features`` unit float32 (K, D) at that point.
    """

    reason: Reason
    best: Array
    text_features: Array
    forwards: int
    seconds: float
    steps: int
    loss: float
    validation_accuracy: float | None


class ImageTower(Protocol):
    """Photos to features; pure, bounded memory, released before a search begins."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, photos: Iterable[Array]) -> Array:
        """uint8 (height, width, 3) photos of any size -> float32 (N, D), rows of length 1."""
        ...


class TextTower(Protocol):
    """Contexts to text features for fixed class names; pure.

    A candidate's features do not depend on its neighbours in the batch.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def start(self) -> Array:
        """Token embeddings of the template's words before the class name, float32 (n, m)."""
        ...

    @property
    def logit_scale(self) -> float:
        """Factor on cosines (already exponentiated)."""
        ...

    @property
    def token_distance(self) -> float:
        """Typical (root mean square) distance between two token embeddings."""
        ...

    @property
    def projection(self) -> Array:
        """Final text projection, float32 (D, H): features = states @ projection.T."""
        ...

    def forward(self, contexts: Array) -> Array:
        """float32 (P, n, m) -> raw text features float32 (P, K, D), not normalised."""
        ...

    def states(self, contexts: Array) -> Array:
        """float32 (P, n, m) -> states at EOS after the final norm, float32 (P, K, H)."""
        ...


class Search(Protocol):
    """An ask / tell minimiser over vectors; never sees a model, a photo or a file.

    ``ask -> state -> from_state -> tell`` continues bit for bit; arguments are never mutated;
    global randomness is never touched. Non-finite losses count as +inf.
    """

    @property
    def dim(self) -> int: ...

    @property
    def step(self) -> int:
        """Steps completed: generations or updates. May lag behind the number of tells."""
        ...

    @property
    def stage(self) -> str: ...

    @property
    def point(self) -> Array:
        """Current estimate (d,): what validation looks at."""
        ...

    @property
    def best(self) -> tuple[Array, float]:
        """Candidate with the lowest loss told so far, and that loss (inf before any)."""
        ...

    @property
    def stopped(self) -> Reason | None: ...

    @property
    def notes(self) -> Mapping[str, float]:
        """Numbers worth a column in the journal (sigma, gradient norm, kept coordinates)."""
        ...

    def ask(self) -> Array:
        """Candidates float64 (P, d); the same again until ``tell``."""
        ...

    def tell(self, losses: Array) -> None: ...

    def observe(self, validation_accuracy: float) -> None:
        """Hear the validation accuracy of ``point``; a search may switch stages by it."""
        ...

    def state(self) -> State: ...


class Head(Protocol):
    """A classifier on cached features; never sees a search. Deterministic."""

    def scores(self, vectors: Array) -> Array:
        """float32 (N, D) -> logits (N, K)."""
        ...

    def arrays(self) -> dict[str, Array]:
        """What the artefact must keep."""
        ...
