"""``sharpzo export``: a run as files for other programs."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from sharpzo.cli import options

if TYPE_CHECKING:
    from sharpzo.data.photo import Photo
    from sharpzo.export.browser_runtime import Runtime
    from sharpzo.fitting.trained import Trained


def export(
    run: options.Run,
    out: Annotated[Path, Argument(help="Folder to make; must not exist.", metavar="OUT")],
    format: Annotated[
        Literal["onnx", "openvino", "web"],
        Option(
            help="onnx: one file, and a script that classifies with it; openvino: .xml and .bin; "
            "web: a page that works offline."
        ),
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "int8"] | None,
        Option(
            help="Of the image tower's matrices in the file.",
            show_default="float32; float16 for the web",
        ),
    ] = None,
    input: Annotated[
        Literal["photo", "pixels"],
        Option(help="photo: uint8 of any size; pixels: float32, preprocessed, in batches."),
    ] = "photo",
    photos: Annotated[
        Path | None,
        Option(
            help="Photos, or a folder of them, on which the file must agree with predict.",
            show_default="those of the fit, if they are still there, else the demo's",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        Option(
            help="Where a page's onnxruntime-web comes from: its folder or .tgz, or download to "
            "fetch it from the npm registry, 33 MB.",
            show_default="what was given before",
            metavar="PATH|download",
        ),
    ] = None,
    prompt_only: Annotated[
        bool,
        Option(
            "--prompt-only",
            help="The tuned prompt alone: as safetensors, and for CoOp's program (extra: torch).",
        ),
    ] = False,
    multi: Annotated[
        bool,
        Option(
            "--multi",
            help="Probabilities of each class on its own, as by predict --multi.",
        ),
    ] = False,
    lost: options.Lost = None,
    model: options.Model = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Write a run's classifier as a file that needs no sharpzo: image tower and classes alone.

    The file is compared with predict on up to 64 photos, and refused if it disagrees.
    """
    from sharpzo.cli.screen import Screen
    from sharpzo.errors import InputError
    from sharpzo.export.agreement import chosen
    from sharpzo.export.bundle import write_model
    from sharpzo.export.classifier_graph import build_classifier
    from sharpzo.export.site import write_site
    from sharpzo.fitting.trained import load
    from sharpzo.wording import quoted

    if prompt_only:
        given = {"--precision": precision, "--photos": photos, "--runtime": runtime, "--lost": lost,
                 "--multi": multi}  # fmt: skip
        _prompt(
            load(run, model=model), out, [name for name, value in given.items() if value], as_json
        )
        return
    if multi and format == "web":
        raise InputError("a page shows one class for each photo; leave out --multi")
    files = _runtime(format, input, runtime)
    trained = load(run, model=model, cache=options.feature_cache(cache, no_cache))
    wanted = options.share(lost, trained)
    compared, source = _photos(trained, photos)
    compared = chosen(compared)
    precision = precision or ("float16" if format == "web" else "float32")
    graph = build_classifier(
        trained, lost=wanted, signature=input, precision=precision, multi=multi
    )
    if format == "web":
        found = write_site(trained, graph, out, compared, source, wanted, files)
    else:
        found = write_model(trained, graph, out, compared, source, wanted, format)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if as_json:
        print(json.dumps({
            "run": str(run), "out": str(out), "format": format, "precision": precision,
            "input": input, "bytes": size, "agreement": found.record(),
        }))  # fmt: skip
        return
    screen = Screen()
    fitted_in = trained.record.get("image_precision", "float32")
    how = "" if fitted_in == "float32" else f" in float32 (the run itself is used in {fitted_in})"
    screen.say(
        f"{found.photos} photos ({source}): {100 * found.top1:.1f} % have the same most probable "
        f"class as by predict{how}; probabilities differ by at most {found.largest_difference:.1e}"
    )
    screen.say(f"{quoted(out)}: {size / 1e6:.1f} MB. {graph.metadata['licence']}")


def _prompt(trained: Trained, out: Path, others: list[str], as_json: bool) -> None:
    """Write the prompt alone, and say what was written."""
    from sharpzo.cli.screen import Screen
    from sharpzo.errors import InputError
    from sharpzo.export.prompt_file import CONTEXT, COOP, write_prompt
    from sharpzo.wording import quoted

    if others:
        raise InputError(f"{others[0]} does nothing with --prompt-only; leave one of them out")
    coop = write_prompt(trained, out)
    if as_json:
        print(json.dumps({"out": str(out), "files": [CONTEXT, *([COOP] if coop else [])]}))
        return
    more = (
        f" and {COOP}, which CoOp's program loads from this folder"
        if coop
        else (
            "; CoOp's checkpoint is written where torch is installed: pip install 'sharpzo[torch]'"
        )
    )
    Screen().say(f"{quoted(out)}: {CONTEXT}{more}")


def _runtime(format: str, input: str, given: str | None) -> Runtime:
    """The files of a page's runtime; none for other formats."""
    from sharpzo.errors import InputError
    from sharpzo.export.browser_runtime import find_runtime

    if format != "web":
        if given is not None:
            raise InputError(f"--runtime is for --format web, not for {format}; leave it out")
        return {}
    if input != "photo":
        raise InputError("a web page takes photos; leave --input out")
    return find_runtime(given, options.user_cache())


def _photos(trained: Trained, given: Path | None) -> tuple[list[Photo], str]:
    """Real photos to compare on, and where they are from."""
    from sharpzo.data.loading import gather
    from sharpzo.export.agreement import demo_photos

    if given is not None:
        return gather([given]), given.resolve().name
    data: dict[str, Any] = {**trained.record["data"]}
    folder = data["source"].removeprefix("folder ").partition(" with labels of ")[0]
    if folder != data["source"] and os.path.isdir(folder) and (photos := _usable(folder)):
        return photos, Path(folder).resolve().name
    return demo_photos(), "the demo's photos"


def _usable(folder: str) -> list[Photo]:
    """The photos of a folder that no option named: it may be another one of that name, or hold
    damaged photos that the fit left out."""
    from sharpzo.data.loading import gather
    from sharpzo.errors import InputError
    from sharpzo.export.agreement import chosen

    found: list[Photo] = []
    with suppress(InputError):  # there is none
        for photo in chosen(gather([folder])):
            with suppress(InputError):
                photo.check()
                found.append(photo)
    return found
