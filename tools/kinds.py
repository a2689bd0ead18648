"""Every kind of file that sharpzo reads: how to make one, and how to read it.

`tools/faults.py bytes` damages each of them, `tools/fuzz.py` begins with each of them. The models
are small and random; torch is not needed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from PIL import Image

from sharpzo.budget import Budget
from sharpzo.data import archive as zips
from sharpzo.data.coop_layout import read_index
from sharpzo.data.dataset import Dataset
from sharpzo.data.decoding import decode
from sharpzo.data.folder import read_folder
from sharpzo.data.label_file import read_lines
from sharpzo.data.layouts import layout
from sharpzo.fitting.trained import load
from sharpzo.storage.answered import Answered
from sharpzo.storage.journal import Journal
from sharpzo.towers.checkpoint import Checkpoint, check_finite
from sharpzo.towers.feature_store import FILE, FeatureStore
from sharpzo.towers.graph_store import GraphStore
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

Arrays = dict[str, np.ndarray]
WIDTH, TOKENS, SIDE, PATCH, OUT = 64, 16, 32, 8, 24
MERGES = ("c a", "ca t</w>", "d o", "do g</w>", "p h", "o t", "ph ot", "phot o</w>")
_LAYERS = {"layer_norm1": "ln_1", "self_attn.out_proj": "attn.out_proj", "layer_norm2": "ln_2",
           "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """``make`` writes a folder in which ``file`` is of this kind; ``read`` returns what sharpzo
    reads in it. ``sealed``: what was made with such a file reads it anew, and raises if it is not
    the same; None where ``read`` itself has a hash to go by, or where nothing can have one:
    ``free``, texts that people write and pixels of photos. ``deep`` reads more, and takes longer.
    """

    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    sealed: Callable[[Path], Any] | None = None
    free: bool = False
    deep: Callable[[Path], Any] | None = None

    def path(self, folder: Path) -> Path:
        """The file in a folder that was made."""
        return next(folder.glob(self.file))


# --- small models ---------------------------------------------------------------------------------


def words() -> list[str]:
    """The vocabulary of the small models: letters, merges, and the frame."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{one}</w>" for one in letters)]
    return [*dict.fromkeys([*pieces, *(one.replace(" ", "") for one in MERGES)]),
            "<|startoftext|>", "<|endoftext|>"]  # fmt: skip


def tensors(vocabulary: int | None = None) -> Arrays:
    """Random weights of both towers, one block each, under transformers' names."""
    draws = np.random.default_rng(0)
    many, places = vocabulary or len(words()), (SIDE // PATCH) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "text_model.embeddings.token_embedding.weight": (many, WIDTH),
        "text_model.embeddings.position_embedding.weight": (TOKENS, WIDTH),
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": (places, WIDTH),
        "vision_model.embeddings.class_embedding": (WIDTH,),
        "visual_projection.weight": (OUT, WIDTH),
        "text_projection.weight": (OUT, WIDTH),
    }
    for tower in ("text_model", "vision_model"):
        block = f"{tower}.encoder.layers.0"
        for name, shape in {
            **{f"self_attn.{one}_proj": (WIDTH, WIDTH) for one in ("q", "k", "v", "out")},
            "mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH),
            "layer_norm1": (WIDTH,), "layer_norm2": (WIDTH,),
        }.items():  # fmt: skip
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    for norm in ("text_model.final_layer_norm", "vision_model.pre_layrnorm",
                 "vision_model.post_layernorm"):  # fmt: skip
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    found = {
        name: (draws.normal(size=shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.2)
               + ("norm" in name and name.endswith("weight"))).astype(np.float16)
        for name, shape in shapes.items()
    }  # fmt: skip
    return {**found, "logit_scale": np.full((), 3.0, np.float16)}


def config() -> dict[str, Any]:
    """`config.json` of the small CLIP."""
    both = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 1,
            "num_attention_heads": 1, "hidden_act": "quick_gelu"}  # fmt: skip
    many = len(words())
    return {
        "model_type": "clip", "projection_dim": OUT,
        "text_config": {**both, "model_type": "clip_text_model", "vocab_size": many,
                        "max_position_embeddings": TOKENS, "bos_token_id": many - 2,
                        "eos_token_id": many - 1},
        "vision_config": {**both, "model_type": "clip_vision_model", "image_size": SIDE,
                          "patch_size": PATCH},
    }  # fmt: skip


PROCESSOR = {
    "size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3,
    "do_resize": True, "do_center_crop": True, "do_normalize": True, "do_rescale": True,
    "rescale_factor": 1 / 255, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.3, 0.3, 0.2],
}  # fmt: skip


def write_words(folder: Path) -> None:
    """Write vocab.json and merges.txt."""
    ids = {piece: number for number, piece in enumerate(words())}
    (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *MERGES, "")), "utf-8")


def clip(folder: Path, shards: bool = False, one_file: bool = False) -> Path:
    """A CLIP as transformers saves it: in two shards, or with its tokenizer in ``one_file``."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    found = tensors()
    if shards:
        parts = [{k: v for k, v in found.items() if k.startswith("text") is text}
                 for text in (True, False)]  # fmt: skip
        index: dict[str, str] = {}
        for number, part in enumerate(parts, start=1):
            name = f"model-{number:05d}-of-00002.safetensors"
            save_file(part, folder / name)
            index |= dict.fromkeys(part, name)
        text = json.dumps({"metadata": {"total_size": 1}, "weight_map": index})
        (folder / "model.safetensors.index.json").write_text(text)
    else:
        save_file(found, folder / "model.safetensors", metadata={"format": "np"})
    (folder / "config.json").write_text(json.dumps(config(), indent=1))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=1))
    write_words(folder)
    if one_file:
        Tokenizer.open(Checkpoint.open(folder))._core.save(str(folder / "tokenizer.json"))
        (folder / "vocab.json").unlink()
        (folder / "merges.txt").unlink()
    return folder


def open_clip_tensors(vocabulary: int | None = None) -> Arrays:
    """The same under OpenCLIP's and OpenAI's names."""
    given, found = tensors(vocabulary), dict[str, np.ndarray]()
    for tower, ours in (("text_model", ""), ("vision_model", "visual.")):
        block, other = f"{tower}.encoder.layers.0", f"{ours}transformer.resblocks.0"
        for kind in ("weight", "bias"):
            found[f"{other}.attn.in_proj_{kind}"] = np.concatenate(
                [given[f"{block}.self_attn.{one}_proj.{kind}"] for one in "qkv"]
            )
            for name, theirs in _LAYERS.items():
                found[f"{other}.{theirs}.{kind}"] = given[f"{block}.{name}.{kind}"]
    for theirs, name in (("ln_final", "text_model.final_layer_norm"),
                         ("visual.ln_pre", "vision_model.pre_layrnorm"),
                         ("visual.ln_post", "vision_model.post_layernorm")):  # fmt: skip
        for kind in ("weight", "bias"):
            found[f"{theirs}.{kind}"] = given[f"{name}.{kind}"]
    text, image = "text_model.embeddings", "vision_model.embeddings"
    return {
        **found,
        "token_embedding.weight": given[f"{text}.token_embedding.weight"],
        "positional_embedding": given[f"{text}.position_embedding.weight"],
        "text_projection": np.ascontiguousarray(given["text_projection.weight"].T),
        "visual.proj": np.ascontiguousarray(given["visual_projection.weight"].T),
        "visual.class_embedding": given[f"{image}.class_embedding"],
        "visual.conv1.weight": given[f"{image}.patch_embedding.weight"],
        "visual.positional_embedding": given[f"{image}.position_embedding.weight"],
        "logit_scale": given["logit_scale"],
    }


def open_clip(folder: Path, weights: str = "open_clip_model.safetensors") -> Path:
    """A folder of OpenCLIP with `safetensors`, or a state dict of torch's (`.bin`)."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    both = {"width": WIDTH, "layers": 1, "mlp_ratio": 4.0}
    model = {
        "embed_dim": OUT, "quick_gelu": True,
        "text_cfg": {**both, "vocab_size": len(words()), "context_length": TOKENS, "heads": 1},
        "vision_cfg": {**both, "head_width": WIDTH, "patch_size": PATCH, "image_size": SIDE},
    }  # fmt: skip
    means = {"mean": [0.5] * 3, "std": [0.2] * 3, "interpolation": "bicubic"}
    document = {"model_cfg": model, "preprocess_cfg": means}
    (folder / "open_clip_config.json").write_text(json.dumps(document, indent=1))
    if weights.endswith(".bin"):
        (folder / weights).write_bytes(torch_archive(open_clip_tensors(), script=False))
    else:
        save_file(open_clip_tensors(), folder / weights)
    write_words(folder)
    return folder


def torch_archive(state: Mapping[str, np.ndarray], script: bool) -> bytes:
    """What torch saves: a zip of a pickle and the tensors; as TorchScript modules, or as a dict."""
    buffer = io.BytesIO()
    pickled = [b"\x80\x02"]

    def text(value: str) -> bytes:
        raw = value.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def sizes(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def tensor(key: int, array: np.ndarray) -> bytes:
        strides = tuple(one // array.itemsize for one in array.strides)
        storage = (b"(" + text("storage") + b"ctorch\nHalfStorage\n" + text(str(key)) + text("cpu")
                   + number(array.size) + b"tQ")  # fmt: skip
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + sizes(array.shape)
            + sizes(strides) + b"\x89ccollections\nOrderedDict\n)Rt" + b"R"
        )  # fmt: skip

    def module(inside: Mapping[str, Any]) -> bytes:
        items = b"".join(
            text(name) + (module(value) if isinstance(value, dict) else tensor(*value))
            for name, value in inside.items()
        )
        made = b"}(" + items + b"u"
        return b"c__torch__.model\nModule\n)\x81" + made + b"b" if script else made

    tree: dict[str, Any] = {}
    for key, (name, array) in enumerate(state.items()):
        *above, last = name.split(".") if script else [name]
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = (key, np.ascontiguousarray(array).reshape(array.shape))
    pickled.append(module(tree) + b".")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", b"".join(pickled))
        archive.writestr("model/constants.pkl", b"\x80\x02).") if script else None
        for key, array in enumerate(state.values()):
            archive.writestr(f"model/data/{key}", np.ascontiguousarray(array).tobytes())
    return buffer.getvalue()


def openai(folder: Path) -> Path:
    """A file of OpenAI's: TorchScript."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(torch_archive(open_clip_tensors(49408), script=True))
    return folder / "model.pt"


def pair(folder: Path) -> Path:
    """Two encoders as ONNX files, the text encoder's weights in a file beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    table, text, image = (draws.normal(size=shape).astype(np.float32)
                          for shape in ((len(words()), 8), (8, 6), (48, 6)))  # fmt: skip

    def save(name: str, nodes: list[Any], port: tuple[str, list[Any]], weight: np.ndarray) -> None:
        graph = helper.make_graph(
            nodes, "encoder",
            [helper.make_tensor_value_info(port[0], TensorProto.FLOAT, port[1])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 6])],
            [numpy_helper.from_array(weight, "weight"),
             numpy_helper.from_array(np.array([1]), "axis")],
        )  # fmt: skip
        opset = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        more: dict[str, Any] = (
            {} if name == "image.onnx" else {"save_as_external_data": True, "size_threshold": 64,
                                             "location": "text.data"}
        )  # fmt: skip
        onnx.save(model, str(folder / name), **more)

    save("image.onnx", [
        helper.make_node("AveragePool", ["pixels"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["features"]),
    ], ("pixels", ["B", 3, 16, 16]), image)  # fmt: skip
    save("text.onnx", [
        helper.make_node("ReduceMean", ["tokens", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["features"]),
    ], ("tokens", ["B", "L", 8]), text)  # fmt: skip
    save_file({"tokens": table}, folder / "table.safetensors")
    with_words = clip(folder / "words", one_file=True)
    shutil.copy(with_words / "tokenizer.json", folder / "tokenizer.json")
    shutil.rmtree(with_words)
    size = {"size": 16, "crop_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    (folder / "dual_encoder.json").write_text(json.dumps({
        "width": 6, "logit_scale": 20.0,
        "image": {"file": "image.onnx", "input": "pixels", "output": "features"},
        "text": {"file": "text.onnx", "input": "tokens", "output": "features", "width": 8,
                 "length": 16, "table": "table.safetensors", "pooling": "none"},
    }, indent=1))  # fmt: skip
    return folder


# --- photos and what names them -------------------------------------------------------------------


def pixels(seed: int = 0, width: int = 24, height: int = 16) -> Image.Image:
    """A photo of noise."""
    draws = np.random.default_rng(seed)
    return Image.fromarray(draws.integers(0, 256, (height, width, 3), np.uint8))


def photo(name: str, **options: Any) -> Callable[[Path], object]:
    """What writes a photo called ``name``, with Pillow's ``options``."""
    mode = options.pop("mode", "RGB")

    def make(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pixels().convert(mode).save(folder / name, **options)

    return make


def photos(folder: Path, per_class: int = 3, side: int = 24) -> Path:
    """Photos of two classes in folders."""
    for number, label in enumerate(("cat", "dog")):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for one in range(per_class):
            pixels(10 * number + one, side, side).save(folder / label / f"{one}.png")
    return folder


def zipped(folder: Path) -> None:
    """A zip of photos in folders."""
    photos(folder / "in", side=64)
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "in").rglob("*.png")):
            archive.write(file, file.relative_to(folder / "in"))
    shutil.rmtree(folder / "in")


def labels(name: str) -> Callable[[Path], object]:
    """What writes a label file for photos beside it."""

    def make(folder: Path) -> None:
        photos(folder)
        rows = [(f"{label}/{one}.png", label, ("train", "test")[one == 2])
                for label in ("cat", "dog") for one in range(3)]  # fmt: skip
        if name.endswith(".csv"):
            text = "\n".join(map(",".join, [("path", "label", "split"), *rows]))
        else:
            keys = "file_name", "label", "split"
            text = "\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in rows)
        (folder / name).write_text(text + "\n")

    return make


def split_file(folder: Path) -> None:
    """EuroSAT in CoOp's layout, with a few photos."""
    (folder / "2750").mkdir(parents=True, exist_ok=True)
    rows = [[f"{name}/{name}_{one}.jpg", label, name.lower()]
            for label, name in enumerate(("Forest", "River")) for one in range(3)]  # fmt: skip
    text = json.dumps({"train": rows[::3], "val": rows[1::3], "test": rows[2::3]})
    (folder / "split_zhou_EuroSAT.json").write_text(text)


def aircraft(folder: Path) -> None:
    """FGVC-Aircraft's text files."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    place = layout("fgvc_aircraft")
    (folder / place.images[0]).mkdir(parents=True, exist_ok=True)
    (folder / place.index[0]).write_text("707-320\n727-200\n737-200\n")
    for number, name in enumerate(place.index[1:]):
        (folder / name).write_text(f"003425{number} 707-320\n0034{number}09 737-200\n")


def synsets(folder: Path) -> None:
    """ImageNet's classnames.txt, with folders."""
    place = layout("imagenet")
    for images in place.images:
        for synset in ("n01440764", "n01443537"):
            inner = folder / images / synset
            inner.mkdir(parents=True, exist_ok=True)
            pixels().save(inner / "0.png")
    (folder / place.index[0]).write_text("n01440764 tench\nn01443537 goldfish\n")


def rows_of(dataset: Dataset) -> Any:
    """All that a data set says."""
    splits = {
        name: [(photo.name, dataset.class_names[label])
               for photo, label in zip(split.photos, split.labels, strict=True)]
        for name, split in dataset.splits.items()
    }  # fmt: skip
    return dataset.class_names, splits, dataset.skipped


def read_labels(name: str) -> Callable[[Path], Any]:
    """The lines of a label file."""
    return lambda folder: read_lines(folder / name)


def answers_file(folder: Path) -> None:
    """What `sharpzo watch` writes and goes on from."""
    folder.mkdir(parents=True, exist_ok=True)
    Answered(folder / "answers.csv").append(
        {"path": f"{one}.png", "label": "cat", "probability": 0.5, "bytes": one, "modified": 9}
        for one in range(5)
    )


def read_answers(folder: Path) -> Any:
    """Which photos have been answered, and how."""
    return Answered(folder / "answers.csv")._label_of


def read_coop(name: str) -> Callable[[Path], Any]:
    """What the index files of a data set in CoOp's layout say."""

    def read(folder: Path) -> Any:
        dataset, missing = read_index(folder, layout(name))
        return rows_of(dataset), missing

    return read


def read_zip(folder: Path) -> Any:
    """Classes and photos of a zip, each of which has to be decoded."""
    place = zips.unpack(folder / "photos.zip")
    try:
        return _decoded(read_folder(place))
    finally:  # thousands would fill the disk
        zips._unpacked.clear()
        shutil.rmtree(place.parent)


def _decoded(dataset: Dataset) -> Any:
    rows = [(split.class_names[label], photo.decode().tobytes())
            for split in dataset.splits.values()
            for photo, label in zip(split.photos, split.labels, strict=True)]  # fmt: skip
    return dataset.class_names, rows


PHOTOS: dict[str, dict[str, Any]] = {
    "jpg": {}, "png": {}, "webp": {"lossless": True}, "bmp": {}, "gif": {}, "avif": {},
    "tiff": {"compression": "tiff_lzw"},
}  # fmt: skip


def read_photo(name: str) -> Callable[[Path], Any]:
    """The pixels of a photo."""

    def read(folder: Path) -> Any:
        found = decode(folder / f"photo.{name}")
        return found.shape, found.tobytes()

    return read


# --- what sharpzo writes --------------------------------------------------------------------------


def run(folder: Path) -> None:
    """A finished run of a search on the small CLIP, beside its model and photos."""
    from sharpzo import PromptClassifier

    model = clip(folder / "model")
    classifier = PromptClassifier(
        "cma-es", model=str(model), budget=Budget(forwards=60), threads=1,
        settings={"validate_every": 10, "search.cma.population_size": 4},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a random model is good for
        classifier.fit(photos(folder / "photos"))
    classifier.save(folder / "run")


def read_run(folder: Path) -> Any:
    """Record, arrays and history."""
    found = load(folder / "run", model=folder / "model")
    arrays = {name: (one.dtype.str, one.shape, one.tobytes()) for name, one in found.arrays.items()}
    return found.record, arrays, list(found.history)


def stopped(folder: Path) -> None:
    """A fit that was stopped after some steps."""
    from sharpzo.fitting.fitter import Fitter
    from sharpzo.fitting.job import Job
    from sharpzo.storage.claim import claim

    model = str(clip(folder / "model"))
    job = Job(
        str(photos(folder / "photos")), method="cma-es", model=model, budget_forwards=400,
        threads=1, settings={"validate_every": 10, "search.cma.population_size": 4},
    )  # fmt: skip
    try:
        with claim(folder / "run", job.document()) as claimed:

            def stop(step: Any) -> None:
                claimed.journal.stop = claimed.journal.count >= 3

            fitter = Fitter(**job.parameters())
            fitter.fit(job.photos()[0], journal=claimed.journal, listen=stop,
                       warn=lambda sentence: None)  # fmt: skip
    except KeyboardInterrupt:
        return
    raise RuntimeError("the fit was not stopped")


def read_stopped(folder: Path) -> Any:
    """What the fit was asked for, its steps, and the state to go on from."""
    from sharpzo.fitting.job import Job

    job, place = Job.of(folder / "run"), Path(mkdtemp(dir=folder))
    try:
        for name in ("history.jsonl", "search.snapshot"):
            shutil.copy(folder / "run" / name, place / name)
        journal = Journal(place)
        journal.close()
        state = {name: (value.dtype.str, value.shape, value.tobytes())
                 if isinstance(value, np.ndarray) else value
                 for name, value in (journal.state or {}).items()}  # fmt: skip
        return job, journal.steps, state, journal._made_of
    finally:
        shutil.rmtree(place)


CELL_KEY = "0123456789abcdef"
RECIPE = """title = "A few photos"
data = "photos"
baseline = "zero-shot"
threads = 1
data_sets = ["few", "demo"]
shots = [2, 4]
seeds = [1, 2]
budgets = [30, 60]
milestones = [20]
methods = ["zero-shot", { method = "cma-es", label = "search", settings = { validate_every = 10 } }]

[[grid]]
models = ["model"]

[[grid]]
template = "a picture of a {}."
"""


def bench(folder: Path) -> None:
    """The folder of a bench with one cell."""
    from sharpzo.bench.cell import FORMAT, expand
    from sharpzo.bench.recipe import read_recipe
    from sharpzo.bench.results import About, Results

    folder.mkdir(parents=True, exist_ok=True)
    text = 'title = "Demo"\ndata_sets = ["demo"]\nshots = [1]\nmethods = ["zero-shot"]\n'
    (folder / "recipe.toml").write_text(text)
    cells = expand(read_recipe(folder / "recipe.toml"))
    results = Results(folder)
    results.make()
    point = {"budget": None, "forwards": 20, "seconds": 0.5, "image_passes": 3,
             "validation_accuracy": 0.5}  # fmt: skip
    tested = {"accuracy": 0.75, "ece": 0.125, "per_class": {"cat": 0.5, "dog": 1.0, "owl": None}}
    results.write(CELL_KEY, {
        "format": FORMAT, "key": CELL_KEY, "cell": asdict(cells[0]), "sharpzo": "0.1.0",
        "settings": {"validate_every": 10}, "model_sha256": "0" * 64,
        "class_names": ["cat", "dog", "owl"], "photos": {"training": 3, "validation": 3},
        "points": [point], "tests": {"": {"n": 4, "zero_shot_accuracy": 0.5, "points": [tested]}},
        "peak_memory_mb": 123.5, "stopped": "the budget was spent", "notes": {"shift": 0.5},
        "tuning": "tuned", "curve": [{"forwards": 10, "seconds": 0.25, "loss": 0.75,
                                      "validation_accuracy": 0.5, "stage": "cma"}],
    })  # fmt: skip
    results.write_about(About("Demo", "zero-shot", cells))


def read_cell(folder: Path) -> Any:
    """A cell's result."""
    from sharpzo.bench.results import Results

    return Results(folder).read(CELL_KEY)


def read_bench(folder: Path) -> Any:
    """What a bench is of."""
    from sharpzo.bench.results import Results

    return Results(folder).about()


def recipe(folder: Path) -> None:
    """A recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE)


def read_a_recipe(folder: Path) -> Any:
    """A recipe, without the place where it lies."""
    from sharpzo.bench.recipe import read_recipe

    found = read_recipe(folder / "recipe.toml")
    return {name: value for name, value in asdict(found).items() if name != "path"}


CACHED = {hashlib.sha256(bytes([number])).hexdigest(): number for number in range(40)}


def feature_cache(folder: Path) -> None:
    """A cache of features."""
    rows = {key: np.arange(8, dtype=np.float32) + number for key, number in CACHED.items()}
    FeatureStore(folder).write("ab" * 32, rows)


def read_cache(folder: Path) -> Any:
    """What is wrong of all that can be had from the cache; what is missing is encoded again."""
    found = FeatureStore(folder).read("ab" * 32, CACHED, 8)
    return {k: v.tobytes() for k, v in found.items() if not (v == np.arange(8) + CACHED[k]).all()}


def graph_cache(folder: Path) -> None:
    """A graph in the cache of graphs."""
    clip(folder / "model")
    read_graph(folder)


def read_graph(folder: Path) -> Any:
    """States that the graph computes: it is read from the cache, or written anew."""
    tower = OnnxImageTower(Checkpoint.open(folder / "model"), threads=1,
                           graphs=GraphStore(folder / "cache"))  # fmt: skip
    try:
        photo = np.linspace(-1, 1, 3 * SIDE * SIDE, dtype=np.float32).reshape(1, 3, SIDE, SIDE)
        return tower.summarise(photo).tobytes()
    finally:
        tower.close()


# --- checkpoints ----------------------------------------------------------------------------------


def with_run(make: Callable[[Path], Path]) -> Callable[[Path], object]:
    """A model and a run that was made with it."""

    def both(folder: Path) -> None:
        from sharpzo import PromptClassifier

        model = make(folder / "model")
        classifier = PromptClassifier("zero-shot", model=str(model), threads=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classifier.fit(photos(folder / "photos")).save(folder / "run")

    return both


def read_model(name: str = "model") -> Callable[[Path], Any]:
    """What the towers are made of: sizes, tensors, preprocessing, and the ids of some words."""

    def read(folder: Path) -> Any:
        checkpoint = Checkpoint.open(folder / name)
        tokenizer = Tokenizer.open(checkpoint)
        ids = tokenizer.before, tokenizer.tokenize("a photo of a cat, dog."), tokenizer.after
        processing = repr(Preprocessing.open(checkpoint))
        return (
            repr(checkpoint.text), repr(checkpoint.image), checkpoint.digest([""]), processing,
            ids, checkpoint.logit_scale, checkpoint.logit_bias,
        )  # fmt: skip

    return read


def answers(name: str = "model") -> Callable[[Path], Any]:
    """What the towers make of two names and a photo."""

    def read(folder: Path) -> Any:
        checkpoint = Checkpoint.open(folder / name)
        text = OnnxTextTower(checkpoint, ["a cat", "dog"], threads=1)
        image = OnnxImageTower(checkpoint, threads=1)
        try:
            states = image.states([np.asarray(pixels())])
            check_finite(states, checkpoint, "features of photos")
            return text.untuned.tobytes(), states.tobytes(), checkpoint.logit_scale
        finally:
            text.close()
            image.close()

    return read


def read_sealed(name: str = "model") -> Callable[[Path], Any]:
    """What the run says that was made with a model; ArtifactError if that is another one now."""

    def read(folder: Path) -> Any:
        return load(folder / "run", model=folder / name).record["model"]

    return read


def of_model(
    file: str, make: Callable[..., Path] = clip, name: str = "model", **options: Any
) -> Kind:
    """A kind of file that a model is made of."""
    made = with_run(lambda folder: make(folder, **options))
    read = answers(name) if make is pair else read_model(name)
    return Kind(f"model/{file}", made, read, read_sealed(name), deep=answers(name))


KINDS: dict[str, Kind] = {
    "run.json": Kind("run/run.json", run, read_run),
    "arrays.safetensors": Kind("run/arrays.safetensors", run, read_run),
    "history.jsonl": Kind("run/history.jsonl", run, read_run),
    "started.json": Kind("run/started.json", stopped, read_stopped),
    "search.snapshot": Kind("run/search.snapshot", stopped, read_stopped),
    "history.jsonl of a stopped fit": Kind("run/history.jsonl", stopped, read_stopped),
    "cell of a bench": Kind(f"cells/{CELL_KEY}.json", bench, read_cell),
    "bench.json": Kind("bench.json", bench, read_bench),
    "cache of features": Kind(FILE, feature_cache, read_cache),
    "graph in the cache": Kind("cache/graph-*/model.onnx", graph_cache, read_graph),
    "weights of a graph": Kind("cache/graph-*/model.onnx.data", graph_cache, read_graph),
    "stamp of a graph in the cache": Kind("cache/graph-*/stamp.json", graph_cache, read_graph),
    "config.json": of_model("config.json"),
    "model.safetensors": of_model("model.safetensors"),
    "preprocessor_config.json": of_model("preprocessor_config.json"),
    "vocab.json": of_model("vocab.json"),
    "merges.txt": of_model("merges.txt"),
    "tokenizer.json": of_model("tokenizer.json", one_file=True),
    "model.safetensors.index.json": of_model("model.safetensors.index.json", shards=True),
    "a shard": of_model("model-00001-of-00002.safetensors", shards=True),
    "open_clip_config.json": of_model("open_clip_config.json", open_clip),
    "open_clip_model.safetensors": of_model("open_clip_model.safetensors", open_clip),
    "open_clip_pytorch_model.bin": of_model(
        "open_clip_pytorch_model.bin", open_clip, weights="open_clip_pytorch_model.bin"
    ),
    "OpenAI's .pt": of_model("model.pt", openai, "model/model.pt"),
    "dual_encoder.json": of_model("dual_encoder.json", pair),
    "ONNX of an image encoder": of_model("image.onnx", pair),
    "ONNX of a text encoder": of_model("text.onnx", pair),
    "external data of ONNX": of_model("text.data", pair),
    "table.safetensors": of_model("table.safetensors", pair),
    "tokenizer.json of a pair": of_model("tokenizer.json", pair),
    "zip": Kind("photos.zip", zipped, read_zip),
    "recipe": Kind("recipe.toml", recipe, read_a_recipe, free=True),
    "CSV of labels": Kind("labels.csv", labels("labels.csv"), read_labels("labels.csv"), free=True),
    "JSON Lines of labels": Kind(
        "labels.jsonl", labels("labels.jsonl"), read_labels("labels.jsonl"), free=True
    ),
    "answers.csv of a folder that is watched": Kind(
        "answers.csv", answers_file, read_answers, free=True
    ),
    "split_zhou_EuroSAT.json": Kind(
        "split_zhou_EuroSAT.json", split_file, read_coop("eurosat"), free=True
    ),
    "variants.txt": Kind("variants.txt", aircraft, read_coop("fgvc_aircraft"), free=True),
    "images_variant_train.txt": Kind(
        "images_variant_train.txt", aircraft, read_coop("fgvc_aircraft"), free=True
    ),
    "classnames.txt": Kind("classnames.txt", synsets, read_coop("imagenet"), free=True),
    **{
        f"photo as {name}": Kind(
            f"photo.{name}", photo(f"photo.{name}", **options), read_photo(name), free=True
        )
        for name, options in PHOTOS.items()
    },
}  # fmt: skip
