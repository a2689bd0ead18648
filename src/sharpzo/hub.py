"""Runs on the Hugging Face Hub, or in a folder as the hub has them: files, and a model card.

What is published is the run without the paths of this machine. `Shared` gives a classifier the
hub's three methods; nothing here goes online but `push_to_hub` and `from_pretrained` with an id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sharpzo.errors import ArtifactError, InputError
from sharpzo.storage.artifact import ARRAYS, RECORD, as_folder
from sharpzo.storage.journal import HISTORY

if TYPE_CHECKING:
    from typing_extensions import Self

    from sharpzo.fitting.trained import Trained
    from sharpzo.storage.record import Record

CARD = "README.md"
TAGS = ["clip", "few-shot", "forward-only", "sharpzo"]
_BODY = """# {title}

A classifier of photos among {many} classes: {names}.

A frozen vision-language model was adapted with `sharpzo` {version}, method `{method}`{preset}, by
forward passes only. The files hold what was tuned, {kilobytes:,.0f} kB, not the model.

```python
from sharpzo import PromptClassifier

classifier = PromptClassifier.from_pretrained("{id}"{model_argument})
classifier.predict("photo.jpg")
```

## Data

{data}

## Cost

{cost}

## Metrics

{metrics}

## Limits

{limits}
"""


class Shared:
    """The hub's methods of a classifier, which has ``trained``, and ``load`` for a run folder."""

    if TYPE_CHECKING:

        @property
        def trained(self) -> Trained: ...

        @classmethod
        def load(
            cls,
            run: str | Path,
            *,
            model: str | Path | None = None,
            cache: str | Path | None = None,
            memory_limit: str | int | None = None,
        ) -> Self: ...

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Write the run, with a model card, as the hub has it; `from_pretrained` reads it.

        Paths of this machine are left out. Raises ArtifactError for a folder that is not empty.
        """
        folder = as_folder(save_directory)
        try:
            used = any(folder.iterdir())
        except FileNotFoundError:
            used = False
        except NotADirectoryError:
            raise ArtifactError(f"{folder} is no folder; choose another name") from None
        if used:
            raise ArtifactError(f"{folder} exists and is not empty; choose another folder")
        _mixin(self.trained, None).save_pretrained(folder)
        return folder

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        model: str | Path | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        cache: str | Path | None = None,
        memory_limit: str | int | None = None,
    ) -> Self:
        """Read what `save_pretrained` wrote: a folder, or the files of a hub id ``owner/name``,
        which are downloaded unless they are here already.

        ``model`` is needed where the run was made with a model of one's own: a folder, or a hub
        id, which is fetched, too. ``cache`` and ``memory_limit`` are those of ``load``, the others
        those of the hub.
        Raises ArtifactError if there is no such run, or if it is damaged.
        """
        folder = as_folder(name_or_path)
        if not os.path.isdir(folder):
            folder = _download(
                str(name_or_path), revision=revision, token=token, cache_dir=cache_dir,
                force_download=force_download, local_files_only=local_files_only,
            )  # fmt: skip
        return cls.load(folder, model=model, cache=cache, memory_limit=memory_limit)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = True,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Push a classifier by sharpzo.",
        create_pr: bool = False,
    ) -> str:
        """Upload the run with a model card to ``owner/name`` of the hub; return the commit's URL.

        The repository is made where it is missing, and is then private unless ``private`` is
        false. ``token`` None: the one of ``hf auth login``. Raises ArtifactError with what the hub
        said if that fails.
        """
        mixin = _mixin(self.trained, repo_id)
        try:
            return str(mixin.push_to_hub(
                repo_id, private=private, token=token, branch=revision,
                commit_message=commit_message, create_pr=create_pr,
            ))  # fmt: skip
        except Exception as error:  # the hub client raises dozens of unrelated types
            raise ArtifactError(f"{repo_id} was not pushed to the hub: {_first(error)}") from error


def published(record: Record) -> Record:
    """A record without what says more about this machine than about the run: paths of photos, of
    files that were left out, and of a model's folder."""
    data: dict[str, Any] = {**record["data"], "source": _bare(record["data"]["source"])}
    for name in ("notes", "skipped"):
        data.pop(name, None)
    model, name = record["model"].copy(), record["model"]["id"]
    if name is not None and (os.path.exists(name) or name.count("/") != 1):
        model["id"] = _bare(name)
    return cast("Record", {**record, "data": data, "model": model})


def model_card(record: Record, repo: str | None, size: int) -> str:
    """The body of the card of a published run whose arrays take ``size`` bytes."""
    names, model, preset = record["class_names"], record["model"]["id"], record["preset"]
    bare = model is not None and model.count("/") != 1
    argument = f', model="{model}"' if model is not None else ""
    return _BODY.format(
        title=(repo or "A classifier of photos").rpartition("/")[2], id=repo or "FOLDER",
        many=len(names), names=", ".join(names[:50]) + (", …" if len(names) > 50 else ""),
        version=record["sharpzo_version"], method=record["method"],
        preset=f" with preset `{preset}`" if preset else "", kilobytes=size / 1000,
        model_argument=argument,
        data=_data(record), cost=_cost(record), metrics=_metrics(record),
        limits=_limits(record, "the folder of " * bare + f"`{model}`" if model else None),
    )  # fmt: skip


def _data(record: Record) -> str:
    data = record["data"]
    shots = data.get("shots")
    each = f", {shots} per class" if shots else ""
    return (
        f"{data['training_photos']:,} training photos{each}, and {data['validation_photos']:,} "
        f"validation photos, which chose between settings (source: {data['source']}; seed "
        f"{record['seed']}). The photos are not part of this repository."
    )


def _cost(record: Record) -> str:
    peak = record["peak_memory_mb"]
    memory = "" if peak is None else f", at most {peak:,.0f} MB of memory"
    many = f"{record['forwards']:,} forward{'' if record['forwards'] == 1 else 's'}"
    return (
        f"{many} of the text tower and {record['seconds']:.1f} seconds of "
        f"tuning{memory}. The fit ended because {record['stopped']}."
    )


def _metrics(record: Record) -> str:
    rows = ["| photos | accuracy | before tuning |", "|---|---:|---:|"]
    for split in ("validation", "test", "shifted"):
        found = cast(Mapping[str, Any], record.get(split) or {})
        if found.get("accuracy") is not None:
            many = record["data"].get(f"{split}_photos")
            title = f"{split} ({many:,})" if isinstance(many, int) else split
            rows.append(
                f"| {title} | {_percent(found['accuracy'])} | "
                f"{_percent(found.get('zero_shot_accuracy'))} |"
            )
    if len(rows) == 2:
        return "No accuracy was measured: there were neither validation nor test photos."
    return "\n".join(rows) + (
        "\n\nThe validation photos chose settings, so their accuracy is optimistic."
    )


def _limits(record: Record, model: str | None) -> str:
    said = ["It answers with one of its classes; photos from another camera or another place may "
            "be recognised less often."]  # fmt: skip
    rule = record.get("none")
    if rule:
        found = rule.get("recognised")
        seen = "" if found is None else (
            f": with each class left out in turn, {_percent(found)} of its photos were recognised"
        )  # fmt: skip
        said.append(
            f"`is_known` tells photos of no class, in part only{seen}. It loses about "
            f"{_percent(rule.get('lost'))} of the photos of known classes."
        )
    else:
        said.append("A photo of no class gets one all the same: there is no rule against it here.")
    said.append(
        f"It needs the model that it was made with: {model or 'the one inside sharpzo'}, sha256 "
        f"`{record['model']['sha256'][:12]}…`; another one is refused."
    )
    if rule:
        said.append(
            "The files hold features of the training photos, from which `add` and `forget` go on; "
            "share them as you would share a description of these photos."
        )
    return "\n".join(f"* {sentence}" for sentence in said)


def _mixin(trained: Trained, repo: str | None) -> Any:
    """What the hub's client saves and pushes; imported here, because that takes a while."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData, ModelHubMixin

    record = published(trained.record)
    size = sum(array.nbytes for array in trained.arrays.values())

    class Published(ModelHubMixin):
        def _save_pretrained(self, save_directory: Path) -> None:
            replace(trained, record=record).save(save_directory)

        def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
            tested = record["test"]["accuracy"]
            results = [] if tested is None else [
                EvalResult(
                    task_type="image-classification", dataset_type="imagefolder",
                    dataset_name=record["data"]["source"], dataset_split="test",
                    metric_type="accuracy", metric_value=round(tested, 4),
                )
            ]  # fmt: skip
            base = record["model"]["id"]
            data = ModelCardData(
                library_name="sharpzo", pipeline_tag="image-classification", tags=TAGS,
                base_model=base if base and base.count("/") == 1 else None,
                model_name=(repo or "sharpzo").rpartition("/")[2] if results else None,
                eval_results=results or None,
            )  # fmt: skip
            return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{model_card(record, repo, size)}")

    return Published()


def _download(name: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(name, allow_patterns=[RECORD, ARRAYS, HISTORY], **options))
    except HFValidationError:
        raise InputError(f"{name!r} is neither a folder nor a hub id like owner/name") from None
    except Exception as error:
        raise ArtifactError(f"{name} cannot be had from the hub: {_first(error)}") from error
    if not (folder / RECORD).is_file():
        raise ArtifactError(f"{name} of the hub is no run of sharpzo: it has no {RECORD}")
    return folder


def _first(error: Exception) -> str:
    """The first line of what a client says."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _bare(path: str) -> str:
    """The last part of a path, whatever the system that wrote it; other texts stay.

    >>> _bare("folder /home/me/my photos"), _bare("folder photos"), _bare("C:\\\\models\\\\clip")
    ('my photos', 'folder photos', 'clip')
    """
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _percent(fraction: float | None) -> str:
    return "n/a" if fraction is None else f"{100 * fraction:.1f} %"
