"""The words that every room of the house uses: data that flows and the contracts it flows through.

Shapes: N photos, D feature width, K classes, n context tokens of width m, P candidates of
dimension d, H width of the text tower's state before its projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
SINGLE = 2**-24  # rounding of float32 arithmetic, relative
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
    ``fingerprint`` the content hash of photos + image tower + preprocessing. ``states`` float32
    (N, S) are what the image tower's projection made the vectors of, for methods that tune it.
    ``detours`` are vectors (N, D) of the same photos by way of a `Detour`, under its digest.
    """

    vectors: Array
    labels: Array
    class_names: tuple[str, ...]
    fingerprint: str = ""
    states: Array | None = None
    detours: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array) -> Features:
        """The photos of ``rows`` (indices or booleans), in that order."""
        vectors, labels = self.vectors[rows], self.labels[rows]
        states = None if self.states is None else self.states[rows]
        detours = {digest: by_detour[rows] for digest, by_detour in self.detours.items()}
        return replace(self, vectors=vectors, labels=labels, states=states, detours=detours)


@dataclass(frozen=True)
class Views:
    """Augmented views to make of each photo: how ``many``, crops of a share of ``scale``."""

    many: int
    scale: tuple[float, float] = (0.08, 1.0)


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
class Judged:
    """A point of a search as a classifier, and what the photos say of it.

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
    judged: Judged
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
    milestones: Mapping[int, Chosen] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Linearise:
    """A search's wish: the answer at ``point`` (d,) and its slopes along ``directions`` (p, d)."""

    point: Array
    directions: Array


@dataclass(frozen=True, eq=False)
class Linearised:
    """The answer in features: raw ``features`` (K, D) and ``derivatives`` (p, K, D), float32."""

    features: Array
    derivatives: Array


class ImageTower(Protocol):
    """Photos to features; pure, bounded memory, released before a search begins."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def projection(self) -> Array:
        """Final image projection, float32 (D, S): features = normalised states @ projection.T."""
        ...

    def pixels(self, photos: Iterable[Array]) -> Array:
        """uint8 (height, width, 3) photos of any size -> float32 (N, 3, h, w), preprocessed."""
        ...

    def forward(self, pixels: Array) -> Array:
        """Preprocessed float32 (N, 3, h, w) -> states float32 (N, S)."""
        ...

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        """Preprocessed (N, 3, h, w) -> tokens before the last block (N, T, S), the class token
        first, and states (N, S), float32."""
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
    def logit_scale(self) -> float:
        """Factor on cosines (already exponentiated)."""
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
    """Candidates to losses, counting forwards. Any number of candidates; a loss that is not a
    number is +inf.

    An objective that knows slopes answers `Linearise` with the loss at the point and its p
    derivatives, float64 (1 + p,). One for searches that read features answers with those instead:
    raw features (P, K, D) of candidates (P, d), `Linearised` to `Linearise`.
    """

    @property
    def dim(self) -> int: ...

    @property
    def forwards(self) -> int: ...

    def price(self, question: Any, /) -> int:
        """Forwards that an answer will count for."""
        ...

    def __call__(self, question: Any, /, step: int = 0) -> Any:
        """Candidates (P, d) -> losses float64 (P,); ``step`` keys a minibatch, if there is one."""
        ...

    def judge(self, candidate: Array) -> Judged:
        """One candidate (d,) on all training and validation photos, for one forward."""
        ...


class Search(Protocol):
    """An ask / tell minimiser over vectors; never sees a model, a photo or a file.

    ``ask -> state -> from_state -> tell`` continues bit for bit; arguments are never mutated;
    global randomness is never touched. Non-finite losses count as +inf.

    A search may ask to `Linearise`. One that reads features instead of losses is told what the
    objective for such searches answers, and holds the loss as a function of features.
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

    def ask(self) -> Any:
        """Candidates float64 (P, d), or `Linearise`; the same again until ``tell``."""
        ...

    def tell(self, answer: Any, /) -> None:
        """Losses (P,) of what was asked."""
        ...

    def observe(self, validation_accuracy: float) -> None:
        """Hear the validation accuracy of ``point``; a search may switch stages by it."""
        ...

    def state(self) -> State: ...


class Head(Protocol):
    """A classifier on cached features; never sees a search. Deterministic."""

    @property
    def n_classes(self) -> int: ...

    def scores(self, photos: Features) -> Array:
        """N photos -> logits (N, K)."""
        ...

    def arrays(self) -> dict[str, Array]:
        """What the artefact must keep."""
        ...
