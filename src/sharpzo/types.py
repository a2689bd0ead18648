"""The types that all packages share: data and contracts.

Shapes: N photos, D feature width, K classes, n context tokens of width m, P candidates of
dimension d, H width of the text tower's state before its projection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SINGLE = 2**-24  # rounding of float32 arithmetic, relative
Precision = Literal["float32", "float16", "int8", "int4"]  # of matrices; arithmetic is float32
ImagePrecision = Literal["float32", "bfloat16", "int8"]  # of the image tower's arithmetic
Decoding = Literal["reduced", "exact"]  # of photos that are much larger than a tower's input
State = dict[str, Array | int | float | str | bool]  # flat
Answer = tuple[Array, Array]  # a value for each point (P, ...), a derivative for each direction
NOTHING: Array = np.zeros(0)  # no directions, no derivatives
Kind = TypeVar("Kind", bound="Objective", contravariant=True)  # of objective


class Reason(Enum):
    """Why a run stopped; the value is the sentence shown to people."""

    FORWARDS = "the budget of forwards was spent"
    SECONDS = "the time limit was reached"
    STEPS = "the planned number of steps was done"
    PATIENCE = "validation accuracy had stopped rising"
    CONVERGED = "the search had converged: further steps would not move the prompt"
    DIVERGED = "every candidate of a step had a non-finite loss"
    ENGINE = "the engine failed; the best point until then is kept"
    CLOSED_FORM = "the method needs no search"


@dataclass(frozen=True, eq=False)
class Features:
    """Photos after the image tower, without their files.

    ``vectors`` float32 (N, D) with rows of length 1, ``labels`` int64 (N,) into ``class_names``,
    ``fingerprint`` the content hash of photos + image tower + preprocessing. ``states`` float32
    (N, S) are what the image tower's projection made the vectors of, for methods that tune it.
    ``detours`` are vectors (N, D) of the same photos by way of a `Detour`, under its digest.
    ``tokens`` float32 (N, 2, S) are what enters the image tower's last block: the class token, and
    the mean of the others; ``patches`` (N, 2, S) are mean and standard deviation of the middle
    patches' tokens further up (`towers/patches.py`). ``by_view`` are features of the same photos
    through fixed views.
    """

    vectors: Array
    labels: Array
    class_names: tuple[str, ...]
    fingerprint: str = ""
    states: Array | None = None
    detours: Mapping[str, Array] = field(default_factory=dict[str, Array])
    tokens: Array | None = None
    patches: Array | None = None
    by_view: Mapping[str, Features] = field(default_factory=dict[str, "Features"])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array | slice) -> Features:
        """The photos of ``rows`` (indices, booleans or a slice), in that order."""
        vectors, labels = self.vectors[rows], self.labels[rows]
        states, tokens, patches = (
            None if kept is None else kept[rows]
            for kept in (self.states, self.tokens, self.patches)
        )
        detours = {digest: by_detour[rows] for digest, by_detour in self.detours.items()}
        by_view = {view: one.take(rows) for view, one in self.by_view.items()}
        return replace(
            self, vectors=vectors, labels=labels, states=states, detours=detours, tokens=tokens,
            patches=patches, by_view=by_view,
        )  # fmt: skip


Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # checked where a journal is read


@dataclass(frozen=True)
class Step:
    """One completed step of a search, as journalled and shown."""

    step: Count
    stage: str
    forwards: Count
    seconds: float
    loss: float
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A point of a search as a classifier, and its losses and accuracy on the photos.

    ``loss`` is the training loss; without validation photos the other two are None.
    """

    head: Head
    loss: float
    validation_accuracy: float | None
    validation_loss: float | None


@dataclass(frozen=True, eq=False)
class Chosen:
    """A point (d,) that was the best so far when ``forwards`` and ``seconds`` had been spent."""

    point: Array
    evaluated: Evaluated
    forwards: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Result:
    """What a search leaves: the point it settled for, why it stopped and what it cost.

    ``milestones``: the choice that a run of so many forwards would have made.
    """

    reason: Reason
    chosen: Chosen
    forwards: int
    seconds: float
    steps: int
    milestones: Mapping[int, Chosen] = field(default_factory=dict[int, Chosen])


class ImageTower(Protocol):
    """Photos to features; pure, bounded memory, released before a search begins."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def projection(self) -> Array:
        """Final image projection, float32 (D, S): features = normalised states @ projection.T."""
        ...

    @property
    def at_once(self) -> int | None:
        """Photos at a time under a memory limit, which leaves no room for what is made of many of
        them; None: there is no limit."""
        ...

    def pixels(self, photos: Iterable[Array]) -> Array:
        """uint8 (height, width, 3) photos of any size -> float32 (N, 3, h, w), preprocessed."""
        ...

    def forward(self, pixels: Array) -> Array:
        """Preprocessed float32 (N, 3, h, w) -> states float32 (N, S)."""
        ...

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        """Preprocessed (N, 3, h, w) -> tokens before the last block (N, T, S), the class token
        first, and summaries (N, R, S), the state first, float32. A tower that does not show its
        tokens has T = 0 and R = 1."""
        ...

    @property
    def last_block(self) -> LastBlock:
        """What makes states of tokens."""
        ...

    def close(self) -> None:
        """Release what the tower holds."""
        ...


@dataclass(frozen=True, eq=False)
class LastBlock:
    """What makes states of tokens: the last block at the class token, then the final norm.

    ``parts``: norm1, query, key, value, out, norm2, fc1, fc2, norm -> a matrix (out, in) or a gain
    (S,), and a bias. The query holds attention's 1/sqrt(width of a head), ``out`` and ``fc2`` hold
    LayerScale. ``activation`` is "gelu" or "quick_gelu", ``eps`` that of the norms.
    """

    parts: Mapping[str, tuple[Array, Array]]
    heads: int
    activation: str
    eps: float


class TextTower(Protocol):
    """Contexts to text features for fixed class names; pure.

    A candidate's features do not depend on its neighbours in the batch.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def template(self) -> str:
        """The sentence with {} in place of the class name."""
        ...

    @property
    def start(self) -> Array:
        """Token embeddings of the template's words before the class name, float32 (n, m)."""
        ...

    @property
    def untuned(self) -> Array:
        """Raw features float32 (K, D) of the template's own words; computed once."""
        ...

    @property
    def logit_scale(self) -> float:
        """Factor on cosines (already exponentiated)."""
        ...

    @property
    def logit_bias(self) -> float | None:
        """What is added to scaled cosines before a sigmoid; None of a model of softmax."""
        ...

    @property
    def token_distance(self) -> float:
        """Typical (root mean square) distance between two token embeddings."""
        ...

    @property
    def rounding(self) -> float:
        """Relative error of one operation of its arithmetic: `SINGLE`, 2**-9 in bfloat16."""
        ...

    @property
    def exact(self) -> bool:
        """Whether `jvp` takes tangents; else it takes differences, two forwards per direction."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that one forward computes: context, class names and what frames them."""
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

    def jvp(self, context: Array, directions: Array) -> tuple[Array, Array]:
        """Context (n, m), directions (p, n, m) -> raw features (K, D) at the context and their
        derivatives along the directions (p, K, D), float32."""
        ...

    def variant(
        self,
        *,
        class_names: Sequence[str] | None = None,
        template: str | None = None,
        n_context: int | None = None,
        specific: bool = False,
    ) -> TextTower:
        """The same tower for other names, another template or another length of context; with
        ``specific`` contexts are (K * n, m), n vectors for each class alone."""
        ...

    def close(self) -> None:
        """Release what the tower holds."""
        ...


class Objective(Protocol):
    """Answers a search's requests about points (P, d), and counts what they cost in forwards.

    What it can answer is said by its further methods: `LossObjective`, `SlopeObjective`,
    `FeatureObjective`. Non-finite losses are +inf. ``step`` keys a minibatch, if there is one.
    """

    @property
    def dim(self) -> int: ...

    @property
    def forwards(self) -> int: ...

    def price(self, points: int, directions: int = 0, /) -> int:
        """Forwards that an answer about points, with derivatives along directions, counts for."""
        ...

    def evaluate(self, point: Array, /) -> Evaluated:
        """One point (d,) on all training and validation photos, for the price of one."""
        ...


class LossObjective(Objective, Protocol):
    """Has losses."""

    def losses(self, points: Array, /, step: int = 0) -> Array:
        """Points (P, d) -> losses float64 (P,)."""
        ...


class SlopeObjective(LossObjective, Protocol):
    """Has losses, and their derivatives along directions."""

    def slopes(self, point: Array, directions: Array, /, step: int = 0) -> Answer:
        """Point (d,), directions (p, d) -> the loss (1,) and its derivatives (p,), float64."""
        ...


class FeatureObjective(Objective, Protocol):
    """Has text features, for searches that compute the loss from them."""

    def features(self, points: Array, /) -> Array:
        """Points (P, d) -> raw features float32 (P, K, D)."""
        ...

    def jacobian(self, point: Array, directions: Array, /) -> Answer:
        """Point (d,), directions (p, d) -> raw features (1, K, D), derivatives (p, K, D)."""
        ...


@dataclass(frozen=True, eq=False)
class Request(ABC, Generic[Kind]):
    """What a search requests for ``points`` (P, d); with ``directions`` (p, d), also
    derivatives along them at the only point. `Kind` of objective can answer."""

    points: Array
    directions: Array = field(default_factory=lambda: NOTHING)

    def price(self, objective: Objective) -> int:
        """Forwards that the answer will count for."""
        return objective.price(len(self.points), len(self.directions))

    @abstractmethod
    def answer(self, objective: Kind, step: int = 0) -> Answer:
        """A value for each point, and a derivative for each direction, to hand to ``tell``."""


class LossesAt(Request[LossObjective]):
    """The losses (P,) of points (P, d)."""

    def answer(self, objective: LossObjective, step: int = 0) -> Answer:
        return objective.losses(self.points, step), NOTHING


class SlopesAt(Request[SlopeObjective]):
    """The loss (1,) at a point (1, d) and its derivatives (p,) along directions (p, d)."""

    def answer(self, objective: SlopeObjective, step: int = 0) -> Answer:
        return objective.slopes(self.points[0], self.directions, step)


class FeaturesAt(Request[FeatureObjective]):
    """The raw text features (P, K, D) of points (P, d)."""

    def answer(self, objective: FeatureObjective, step: int = 0) -> Answer:
        return objective.features(self.points), NOTHING


class JacobianAt(Request[FeatureObjective]):
    """The features (1, K, D) at a point (1, d) and their derivatives (p, K, D) along directions."""

    def answer(self, objective: FeatureObjective, step: int = 0) -> Answer:
        return objective.jacobian(self.points[0], self.directions)


class Head(Protocol):
    """A classifier on cached features; never sees a search. Deterministic."""

    def scores(self, photos: Features) -> Array:
        """N photos -> logits (N, K)."""
        ...

    def arrays(self) -> dict[str, Array]:
        """What the artefact must keep."""
        ...
