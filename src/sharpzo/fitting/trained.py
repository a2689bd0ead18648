"""A trained classifier: a fitted head with its class names and its model, saved as a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from sharpzo.data.arguments import as_array
from sharpzo.data.dataset import NONE, LabelledPhotos, class_name, strange
from sharpzo.data.photo import Photo
from sharpzo.detour import detours, fixed_views
from sharpzo.errors import ArtifactError, InputError
from sharpzo.evaluate import Evaluation, evaluate_logits
from sharpzo.fitting.answers import Answers, ask
from sharpzo.fitting.kept import PREFIX, Split, kept_splits
from sharpzo.fitting.strangers import LOST, Strangers, rule_of
from sharpzo.linear import LinearHead
from sharpzo.memory import Need, parse_size
from sharpzo.methods import METHODS, Method, find
from sharpzo.metrics import normalise
from sharpzo.settings import check_path
from sharpzo.storage import artifact
from sharpzo.storage.claim import claim
from sharpzo.storage.journal import HISTORY, read_journal, write_history
from sharpzo.storage.record import Record
from sharpzo.towers.digests import model_digest
from sharpzo.towers.families import image_family
from sharpzo.towers.features import Progress
from sharpzo.towers.image_precision import followed
from sharpzo.towers.open import Towers
from sharpzo.towers.runtime import Runtime
from sharpzo.types import Array, Decoding, Features, Head, Step
from sharpzo.wording import meant

# What a record says of the photos and names of a fit alone.
OF_THE_FIT = ("labels", "methods", "shifted", "none", "more_photos")
_ORIGIN = "trained/"  # before the names of arrays that a renamed run was made from


def silent(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A method's ``head`` among ``class_names``, and what a run folder keeps of it.

    ``arrays`` rebuild the head, ``record`` is what ``run.json`` says, ``history`` are the steps of
    a search. Copies and pickles leave out what the towers hold and open them again when needed.
    """

    method: Method[Any]
    towers: Towers
    cache: Path | None
    class_names: tuple[str, ...]
    head: Head
    arrays: Mapping[str, Array]
    record: Record
    history: Sequence[Step] = field(default_factory=list[Step])

    @property
    def classes(self) -> Array:
        """The labels (K,) that stand for the class names: the names, or what was given for them."""
        return as_array(self.record.get("labels") or self.class_names)

    @property
    def template(self) -> str:
        return self.record["template"]

    # --- classifying ------------------------------------------------------------------------------

    def probabilities(self, photos: Sequence[Photo]) -> Array:
        """Class probabilities (N, K) of N photos."""
        if not photos:
            return np.zeros((0, len(self.class_names)))
        return self.answer(strange(photos)).complete().probabilities

    def ask(self, split: LabelledPhotos, progress: Progress = silent) -> Iterator[Answers]:
        """Answer about the photos, whatever their class names, a part of them after the other."""
        self.verified  # noqa: B018  (raises)
        ways = detours([self.head]), fixed_views([self.head])
        with self.towers.encoder([split], self.cache, *ways) as encoder:
            yield from ask(self.head, self.strangers, encoder, split, progress)

    def answer(self, split: LabelledPhotos, progress: Progress = silent) -> Answers:
        """Answer about all of the photos."""
        return Answers.joined(list(self.ask(split, progress)))

    def logit_bias(self) -> float:
        """The model's logit bias; InputError for a model that was not trained with sigmoids, and
        for logits that are not the model's own."""
        head, checkpoint = self.head, self.towers.checkpoint
        if checkpoint.logit_bias is None:
            raise InputError(
                "this model has no logit bias (SigLIP's have): its probabilities are shares among "
                "the classes, and none is on its own; leave out --multi"
            )
        scale = checkpoint.logit_scale
        if (
            not isinstance(head, LinearHead)
            or head.bias.any()
            or abs(head.scale / scale - 1) > 1e-5
        ):
            raise InputError(
                f"method {self.method.name} fits logits for one class per photo; several at once "
                "take the model's own: zero-shot, or a search for a context"
            )
        return checkpoint.logit_bias

    def encode(
        self,
        split: LabelledPhotos,
        *,
        progress: Progress = silent,
        heads: Sequence[Head] | None = None,
    ) -> tuple[Features, Array]:
        """Return features of labelled photos, and which class of this one each of their names is.

        Names are matched by their letters, an underscore for a space; one that is not among
        ``class_names`` raises InputError. The photos take the detours and are seen through the
        fixed views of ``heads``, this one's if not given.
        """
        places = self.places(split.class_names)
        return self._encode({"test": split}, progress, heads)["test"], places

    def places(self, names: Iterable[str], among: Iterable[str] | None = None) -> Array:
        """Which class each name is, ``among`` these or all, int64; InputError for an unknown
        one."""
        known = {name: k for k, name in enumerate(among or self.class_names)}
        found = [(name, known.get(class_name(name, f"the class {name!r}"))) for name in names]
        unknown = [name for name, place in found if place is None]
        if unknown:
            raise InputError(
                f"the photos have a class '{unknown[0]}' that this run does not know"
                f"{meant(unknown[0], self.class_names)}; it knows: {', '.join(self.class_names)}"
            )
        return np.array([place for _, place in found], np.int64)

    def rows(self, labels: Sequence[Any]) -> Array:
        """Which class each label is, int64, K for "none"; InputError for an unknown one."""
        known = self.classes.tolist()
        if isinstance(known[0], str) and all(isinstance(label, str) for label in labels):
            return self.places(labels, (*self.class_names, NONE))
        for label in labels:  # 1 is no True, and neither is "1"
            if label not in known or type(label) is not type(known[0]):
                raise InputError(
                    f"the photos have a label {label!r} that this run does not know; it knows: "
                    f"{', '.join(map(repr, known))}"
                )
        return np.array([known.index(label) for label in labels], np.int64)

    def evaluate(
        self, split: LabelledPhotos, *, lost: float = LOST, progress: Progress = silent
    ) -> Evaluation:
        """Evaluate on labelled photos among all classes of this one; those of a class none are of
        no class, and a share of the others may be ``lost`` to it."""
        known, others = split.apart()
        places = self.places(known.class_names)
        found = self.answer(known, progress).complete()
        strange = self.answer(others, progress).complete() if others else None
        return self.evaluation(found, places[known.labels], strange, lost)

    def evaluation(
        self, known: Answers, labels: Array, others: Answers | None, lost: float
    ) -> Evaluation:
        """What answers about photos of ``labels`` (N,) are worth, and, where there is a rule for
        photos of no class, those about ``others``."""
        found = evaluate_logits(known.logits, labels, self.class_names)
        if self.strangers is None or known.familiarity is None:
            return found
        strange = None if others is None else others.familiarity
        return replace(found, none=self.strangers.measure(known.familiarity, strange, lost))

    def _encode(
        self,
        splits: Mapping[str, LabelledPhotos],
        progress: Progress = silent,
        heads: Sequence[Head] | None = None,
        views: Sequence[str] | None = None,
    ) -> dict[str, Features]:
        self.verified  # noqa: B018  (raises)
        heads = [self.head] if heads is None else heads
        views = fixed_views(heads) if views is None else views
        return self.towers.encode(splits, progress, self.cache, detours(heads), views)

    @cached_property
    def verified(self) -> bool:
        """Whether the model is the one that this was made with; raises ArtifactError if not."""
        actual = model_digest(self.towers.checkpoint, self.cache)
        if actual != (expected := self.record["model"]["sha256"]):
            raise ArtifactError(
                f"the run was made with another model (sha256 {expected[:12]}…) than "
                f"{self.towers.model or 'the embedded one'} ({actual[:12]}…); give the right one "
                "as model, or fit again"
            )
        return True

    # --- photos of no class -----------------------------------------------------------------------

    @cached_property
    def splits(self) -> dict[str, Split]:
        """What is kept of the photos of the fit, by split; nothing for most methods, and of other
        names than those that were trained."""
        kept = any(name.startswith(PREFIX) for name in self.arrays)
        if not kept or "trained_class_names" in self.record:
            return {}
        checkpoint = self.towers.checkpoint
        projection = image_family(checkpoint).projection(checkpoint)
        return kept_splits(self.arrays, self.class_names, projection)

    @cached_property
    def strangers(self) -> Strangers | None:
        """What tells photos of no class, where it can be told."""
        return rule_of(self.splits, fixed_views([self.head]))

    def is_known(self, photos: Sequence[Photo], lost: float) -> Array:
        """Whether each of N photos is of any class, booleans (N,); InputError without a rule."""
        threshold = self.require_rule().threshold(lost)
        found = self.answer(strange(photos)).complete()
        return np.array(found.known(threshold), bool)

    def require_rule(self) -> Strangers:
        """What tells photos of no class; InputError if nothing does."""
        if self.strangers is not None:
            return self.strangers
        raise InputError(
            "this classifier cannot recognise photos of no class: that takes ladder+tokens (the "
            "default), ladder+gda or ladder, the class names of the fit, and two photos of a class"
        )

    def encoded(
        self, split: LabelledPhotos, progress: Progress = silent, views: Sequence[str] | None = None
    ) -> Features:
        """Features of photos, whatever their class names; through ``views``, those of the head if
        not given."""
        return self._encode({"new": split}, progress, views=views)["new"]

    # --- other names ------------------------------------------------------------------------------

    def rename(self, names: Sequence[Any]) -> Trained:
        """Return the same among other class names, which training may never have seen.

        What was tuned (a prompt, a projection) is shared by all class names; a method without
        that raises InputError, as do fewer than two names: every photo would be of the only one.
        Renaming starts from what was trained, however often it is done.
        """
        if self.method.rename is None:
            able = ", ".join(method.name for method in METHODS.values() if method.rename)
            raise InputError(
                f"method {self.method.name} knows only the classes that it was trained on; "
                f"methods that can name others: {able}"
            )
        self.verified  # noqa: B018
        # What was trained comes last: it takes the place of what a renaming made of it.
        order = sorted(self.arrays, key=lambda name: name.startswith(_ORIGIN))
        origin = {name.removeprefix(_ORIGIN): self.arrays[name] for name in order}
        labels = list(names)
        if len(labels) < 2:
            raise InputError(
                f"{f'the only class is {labels[0]!r}' if labels else 'there is no class'}; give "
                "two or more to choose among"
            )
        class_names = tuple(class_name(str(label), f"the name {label!r}") for label in labels)
        towers = self.towers.plain()
        tower = towers.text(class_names, self.template)
        towers.plan(tower, Need())
        try:
            head = self.method.rename(origin, tower)
        finally:
            tower.close()
        own = head.arrays()
        kept = {name: array for name, array in origin.items() if name not in own}
        kept |= {_ORIGIN + name: array for name, array in origin.items() if name in own}
        record = cast(Record, {
            **{name: value for name, value in self.record.items() if name not in OF_THE_FIT},
            "class_names": list(class_names),
            "trained_class_names": self.record.get("trained_class_names", list(self.class_names)),
            "validation": {"accuracy": None, "zero_shot_accuracy": None},
            "test": {"accuracy": None, "zero_shot_accuracy": None},
        })  # fmt: skip
        if tuple(labels) != class_names:
            record["labels"] = labels
        other = Trained(
            self.method, towers, self.cache, class_names, head, {**kept, **own}, record,
            self.history,
        )  # fmt: skip
        vars(other)["verified"] = True
        return other

    # --- keeping ----------------------------------------------------------------------------------

    def save(self, run: str | Path) -> Path:
        """Write a run folder (JSON and safetensors); raises ArtifactError if it exists."""
        with claim(run) as claimed:  # after a failure nothing is lost: all of it is in memory
            write_history(claimed.folder, self.history)
            artifact.write(claimed.folder, self.arrays, self.record)
        return claimed.folder

    def __getstate__(self) -> dict[str, Any]:
        state = {**vars(self), "method": self.method.name}
        # The model may change meanwhile, and so may the code of a head: arrays can be read by all.
        for made_again in ("head", "verified", "splits", "strangers"):
            state.pop(made_again, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        method = find(state["method"])
        self.__dict__.update(state, method=method, head=method.load(state["arrays"]))


def among(photos: Features, places: Array, class_names: tuple[str, ...]) -> Features:
    """Features whose labels are places in other class names."""
    return replace(photos, labels=places[photos.labels], class_names=class_names)


def load(
    run: str | Path,
    *,
    model: str | Path | None = None,
    cache: str | Path | None = None,
    memory_limit: str | int | None = None,
) -> Trained:
    """Read a run folder; ``model`` says where the checkpoint lies now, if it has moved.

    Raises ArtifactError if the run is damaged or was made with another model.
    """
    check_path("model", model)
    check_path("cache", cache)
    found = artifact.read(run)
    record = found.record
    method, names = find(record["method"]), tuple(record["class_names"])
    labels = record.get("labels", names)
    where = record["model"]["id"] if model is None else model
    limit = None if memory_limit is None else parse_size(memory_limit)
    try:
        head = method.load(found.arrays)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{run} has incomplete arrays ({error}); fit again") from None
    history = Path(run) / HISTORY
    trained = Trained(
        method,
        # Reading a run never goes online, unless the caller names a hub id.
        Towers(
            where,
            Runtime(threads=record.get("threads")),
            limit,
            fetch=model is not None,
            decoding=decoding_of(record, run),
            image_size=record.get("image_size"),
            image_precision=followed(record, run, limit is not None),
        ),
        None if cache is None else Path(cache).absolute(),
        names, head, found.arrays, record,
        read_journal(history) if history.is_file() else [],
    )  # fmt: skip
    if len(labels) != len(names):
        raise ArtifactError(
            f"{run} has {len(labels)} labels for {len(names)} class names; fit again"
        )
    trained.verified  # noqa: B018
    _check(trained, run)
    return trained


def decoding_of(record: Record, run: str | Path) -> Decoding:
    """How a run's photos are decoded; earlier versions did not say, and decoded them whole."""
    found = record["preprocessing"].get("decoding", "exact")
    if found not in get_args(Decoding):
        raise ArtifactError(f"{run} was made with decoding {found!r}; update sharpzo")
    return found


def _check(trained: Trained, run: str | Path) -> None:
    """Raise ArtifactError for arrays that cannot classify a photo of the model."""
    image = trained.towers.checkpoint.image
    vectors = normalise(np.ones((1, image.projection), np.float32))
    states, rows = (np.ones(shape, np.float32) for shape in [(1, image.width), (1, 2, image.width)])
    photo = Features(
        vectors, np.zeros(1, np.int64), trained.class_names,
        states=states, tokens=rows, patches=rows,
        detours={
            way.digest: vectors if way.projected else states for way in detours([trained.head])
        },
    )  # fmt: skip
    photo = replace(photo, by_view=dict.fromkeys(fixed_views([trained.head]), photo))
    try:
        scores = trained.head.scores(photo)
        sound = scores.shape == (1, len(trained.class_names)) and np.isfinite(scores).all()
    except (ValueError, IndexError):  # shapes that do not fit
        sound = False
    if not sound:
        raise ArtifactError(
            f"{run} has arrays that cannot classify a photo of its model (non-finite numbers or "
            "wrong shapes); fit again"
        )
