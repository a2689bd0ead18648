"""Two encoders as ONNX files: features and differences against NumPy; what is refused."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from pair_models import (
    IMAGE,
    LENGTH,
    SIDE,
    TEXT,
    WORDS,
    image_features,
    save_pair,
    text_features,
    weights,
    write_image,
)
from safetensors.numpy import save_file

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.onnx_file import OnnxFile
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

NAMES = ["cat", "bright dog", "the dark blue cat", "dog"]


def relative(found, wanted):
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def contexts_for(tower, many=5):
    draws = np.random.default_rng(1)
    return (tower.start + draws.normal(size=(many, *tower.start.shape))).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({}, {}),
        ({"batch": 1}, {}),
        ({"batch": 3}, {}),
        ({"mask": False}, {}),
        ({"pad": 0}, {"pad": 0}),
        ({"pad": 0, "fixed": True, "batch": 2}, {"pad": 0}),
        ({"pad": 0, "mask": False}, {"pad": 0, "masked": False}),
        *[({"pooling": p}, {"pooling": p}) for p in ("first", "last", "mean")],
        *[({"pooling": p, "pad": 0}, {"pooling": p, "pad": 0}) for p in ("last", "mean")],
    ],
)
@pytest.mark.parametrize("specific", [False, True])
def test_text_features_are_those_of_each_prompt_alone(tmp_path, options, reference, specific):
    tower = OnnxTextTower(Checkpoint.open(save_pair(tmp_path, **options)), NAMES, specific=specific)
    contexts = contexts_for(tower)
    wanted = text_features(tower.prompts, contexts, **reference)
    assert relative(tower.forward(contexts), wanted) < 1e-5
    assert np.array_equal(tower.states(contexts) @ tower.projection.T, tower.forward(contexts))


def test_prompts_are_framed_as_the_tokenizer_says(tmp_path):
    tower = OnnxTextTower(Checkpoint.open(save_pair(tmp_path)), NAMES, "a photo of the {} cat")
    ids = [WORDS.index(word) for word in ("a", "photo", "of", "the")]
    assert tower.prompts.prefix == tuple(ids)
    assert (tower.prompts.before, tower.prompts.after) == ((1,), (2,))
    assert np.array_equal(tower.start, weights()["table"][ids])
    assert tower.tokens == sum(len(one) for one in tower.prompts.suffixes) + 4 * 5
    with pytest.raises(InputError, match="'zebra' has characters that the tokenizer does not know"):
        OnnxTextTower(tower.checkpoint, ["cat", "zebra"])
    with pytest.raises(InputError, match=r"template 'a photo: .*' has characters"):
        OnnxTextTower(tower.checkpoint, NAMES, "a photo: {}")
    with pytest.raises(InputError, match=f"the text tower holds {LENGTH}"):
        OnnxTextTower(tower.checkpoint, ["cat", "the dark bright blue dark bright blue cat"])


def test_derivatives_are_differences_that_say_so(tmp_path):
    tower = OnnxTextTower(Checkpoint.open(save_pair(tmp_path)), NAMES)
    assert not tower.exact
    context, directions = contexts_for(tower, 1)[0], contexts_for(tower, 3) - tower.start
    directions[1] = 0
    features, slopes = tower.jvp(context, directions)
    step = 1e-5
    ahead, behind = (
        text_features(tower.prompts, context + s * directions.astype(np.float64))
        for s in (step, -step)
    )
    assert relative(features, text_features(tower.prompts, context[None])[0]) < 1e-5
    assert relative(slopes, (ahead - behind) / (2 * step)) < 1e-3
    assert not slopes[1].any()


def test_image_features_are_those_of_each_photo(tmp_path):
    for batch in ("B", 1, 3):
        tower = OnnxImageTower(Checkpoint.open(save_pair(tmp_path / str(batch), batch=batch)))
        pixels = np.random.default_rng(2).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
        assert relative(tower.forward(pixels), image_features(pixels)) < 1e-5
        assert tower.summarise(pixels).shape == (4, 1, 6)


def test_fingerprints_follow_every_file(tmp_path):
    def prints(folder):
        checkpoint = Checkpoint.open(folder)
        text, image = OnnxTextTower(checkpoint, NAMES), OnnxImageTower(checkpoint)
        return text.fingerprint, image.fingerprint, checkpoint.fingerprint

    first = prints(save_pair(tmp_path / "a"))
    assert prints(save_pair(tmp_path / "elsewhere")) == first
    moved = save_pair(tmp_path / "b")
    write_image(moved, {"pixels": 2 * weights()["pixels"]})
    changed = prints(moved)
    assert [one == two for one, two in zip(changed, first, strict=True)] == [True, False, False]
    moved = save_pair(tmp_path / "c")
    save_file({"tokens": 2 * weights()["table"]}, moved / "table.safetensors")
    changed = prints(moved)
    assert [one == two for one, two in zip(changed, first, strict=True)] == [False, True, False]
    assert prints(save_pair(tmp_path / "d", logit_scale=21.0))[2] != first[2]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"width": 7}, r"'features' is float \(any, 6\).*asks for \(B, 7\)"),
        ({"width": "wide"}, r"dual_encoder.json: width: expected `int`, got `str`"),
        ({"text": {"width": 9}}, r"'embeddings' is float \(any, any, 8\).*\(B, L, 9\)"),
        ({"text": {"input": "ids"}}, "has no input 'ids'; it has: embeddings, mask"),
        ({"text": {"mask": None}}, "needs the input 'mask', too"),
        ({"text": {"output": "last"}}, "has no output 'last'; it has: features"),
        ({"text": {"pooling": "cls"}}, r"dual_encoder.json: text.pooling: invalid enum value"),
        ({"text": {"pooling": "mean"}}, r"asks for \(B, T, 6\) with pooling 'mean'"),
        ({"text": {"pad": 14}}, "text.pad is 14, and table.safetensors has 14 rows"),
        ({"text": {"extra": 1}}, "contains unknown field `extra`"),
        ({"image": {"input": "images"}}, "has no input 'images'; it has: pixels"),
        ({"image": {"file": "../image.onnx"}}, "'../image.onnx', which is not in that folder"),
        ({"image": {"file": "/etc/passwd"}}, "'/etc/passwd', which is not in that folder"),
        ({"image": {"file": "none.onnx"}}, "'none.onnx', which is not there"),
        ({"image": {"file": "table.safetensors"}}, "is not an ONNX file"),
        ({"text": {"table": "text.onnx"}}, "is not a safetensors file"),
        ({"logit_scale": 0}, "logit_scale: expected `float` >="),
        ({"tokenizer": "\0"}, "which is no path"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, said, message):
    save_pair(tmp_path / "sub", **said)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(tmp_path / "sub")


def test_a_fixed_length_needs_a_token_to_fill_up(tmp_path):
    with pytest.raises(CheckpointError, match=f"takes {LENGTH} tokens and no other number"):
        Checkpoint.open(save_pair(tmp_path / "a", fixed=True))
    with pytest.raises(CheckpointError, match="asks for embeddings"):
        Checkpoint.open(save_pair(tmp_path / "b", fixed=True, pad=0, text={"length": 9}))


def test_photos_of_another_size_are_refused(tmp_path):
    save_pair(tmp_path)
    settings = {"size": 2 * SIDE, "crop_size": 2 * SIDE}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    tower = OnnxImageTower(Checkpoint.open(tmp_path))
    with pytest.raises(CheckpointError, match=r"photos of 32x32 pixels.*takes float \(any, 3, 16"):
        tower.forward(np.zeros((1, 3, 32, 32), np.float32))
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json is missing"):
        Checkpoint.open(tmp_path)


def test_features_that_are_not_finite_are_refused(tmp_path):
    save_pair(tmp_path)
    table = weights()["table"]
    table[WORDS.index("cat")] = np.nan
    save_file({"tokens": table}, tmp_path / "table.safetensors")
    with pytest.raises(CheckpointError, match="text tower's features are not finite"):
        _ = OnnxTextTower(Checkpoint.open(tmp_path), NAMES).untuned


@pytest.mark.parametrize("options", [{"engine": "openvino"}, {"precision": "int8"}])
def test_other_engines_are_refused(tmp_path, options):
    tower = OnnxTextTower(Checkpoint.open(save_pair(tmp_path)), NAMES, **options)
    with pytest.raises(InputError, match="an ONNX file is run as it is"):
        _ = tower.untuned


def test_a_memory_limit_is_refused(tmp_path):
    checkpoint = Checkpoint.open(save_pair(tmp_path))
    with pytest.raises(InputError, match="not computed block by block; leave out the memory limit"):
        OnnxTextTower(checkpoint, NAMES, streamed=True)


# --- weights beside a graph -----------------------------------------------------------------------


def beside(folder, location="weights.bin", offset=0, length=None):
    """Keep the image encoder's matrix in a file of its own."""
    model = onnx.load(folder / IMAGE)
    (tensor,) = model.graph.initializer
    data = numpy_helper.to_array(tensor).tobytes()
    (folder / "weights.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length or len(data))):
        tensor.external_data.add(key=key, value=str(value))
    (folder / IMAGE).write_bytes(model.SerializeToString())


def test_weights_beside_a_graph_are_read_and_known(tmp_path):
    save_pair(tmp_path)
    before = OnnxImageTower(Checkpoint.open(tmp_path)).fingerprint
    beside(tmp_path)
    assert OnnxFile.open(tmp_path, IMAGE).files == (tmp_path / IMAGE, tmp_path / "weights.bin")
    tower = OnnxImageTower(Checkpoint.open(tmp_path))
    pixels = np.random.default_rng(2).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    assert relative(tower.forward(pixels), image_features(pixels)) < 1e-5
    assert tower.fingerprint != before
    again = tower.fingerprint
    (tmp_path / "weights.bin").write_bytes(bytes(4 * weights()["pixels"].size))
    assert OnnxImageTower(Checkpoint.open(tmp_path)).fingerprint != again


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"location": "../secret"}, "not in that folder; it is refused"),
        ({"location": "/etc/passwd"}, "not in that folder; it is refused"),
        ({"location": "link"}, "not in that folder; it is refused"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "not in that folder; it is refused"),
        ({"location": ""}, "not in that folder; it is refused"),
        ({"location": "gone"}, "which is not there"),
        ({"offset": 8}, "is said to be bytes 8 and"),
        ({"offset": -8}, "is said to be bytes -8"),
        ({"length": 1 << 60}, "export it again"),
        ({"offset": "x"}, "is said to be bytes x"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path, place, message):
    folder = save_pair(tmp_path / "model")
    (tmp_path / "secret").write_bytes(bytes(4096))
    (folder / "link").symlink_to(tmp_path / "secret")
    hidden = folder / "*" / "_ORT_MEM_ADDR_"
    hidden.mkdir(parents=True)
    (hidden / "*").write_bytes(bytes(4096))
    beside(folder, **place)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_weights_elsewhere_are_found_inside_nodes_and_functions(tmp_path):
    folder = save_pair(tmp_path / "model")
    bad = TensorProto(name="bad", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    bad.external_data.add(key="location", value="../secret")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=bad)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    for node, function in (
        (constant, None),
        (onnx.helper.make_node("If", ["x"], ["c"], then_branch=inner), None),
        (onnx.helper.make_node("Relu", ["x"], ["c"]), constant),
    ):
        model = onnx.load(folder / TEXT)
        model.graph.node.append(node)
        if function is not None:
            model.functions.add(name="f", domain="d").node.append(function)
        (folder / TEXT).write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match="not in that folder"):
            Checkpoint.open(folder)
        save_pair(folder)


def test_names_that_are_not_utf8_are_refused(tmp_path):
    folder = save_pair(tmp_path)
    damaged = (folder / TEXT).read_bytes().replace(b"mask", b"\xffask")
    (folder / TEXT).write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"a name that is not UTF-8: b'\\xffask'"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_any(tmp_path, size):
    folder = save_pair(tmp_path)
    model = onnx.load(folder / TEXT)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    onnx.save(model, folder / TEXT)
    assert OnnxFile.open(folder, TEXT).inputs["embeddings"].shape == (None, None, 8)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_pooling_needs_a_token_out_for_each_in(tmp_path, pooling):
    folder = save_pair(tmp_path, pooling=pooling)
    model = onnx.load(folder / TEXT)
    model.graph.node[-1].output[0] = "all"
    model.graph.node.append(
        onnx.helper.make_node("Slice", ["all", "zero", "last", "one"], ["features"])
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, folder / TEXT)
    tower = OnnxTextTower(Checkpoint.open(folder), NAMES)
    with pytest.raises(CheckpointError, match=f"has 2 tokens for prompts of.*'{pooling}'"):
        tower.forward(tower.start[None])


def test_prompts_of_one_length_pass_together(tmp_path, monkeypatch):
    """The same features whatever the size of a call."""
    checkpoint = Checkpoint.open(save_pair(tmp_path))
    tower = OnnxTextTower(checkpoint, NAMES)
    contexts = contexts_for(tower)
    whole = tower.forward(contexts)
    monkeypatch.setattr("sharpzo.towers.pair_session._TOKENS", 1)
    assert relative(OnnxTextTower(checkpoint, NAMES).forward(contexts), whole) < 1e-6
    assert replace(tower.prompts, specific=True).tokens == tower.tokens
