"""Exported networks: they compute what the run's do, without this package, and say what their columns are."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks.narrow import narrow
from PIL import Image
from torch import Tensor, nn

import infogan_fast
from infogan_fast import export as verb
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.spectral_norm import own_weight
from infogan_fast.pictures.samples import draw_inputs
from infogan_fast.sharing import hub_folder, onnx_file, pt2_file, safetensors_file
from infogan_fast.sharing.export import FORMATS, export
from infogan_fast.sharing.folded import folded_encoder, folded_generator
from infogan_fast.sharing.metadata import describe
from infogan_fast.train import main as train_main

#: Odd sides, layers that keep the side with and without normalisation, images in [-1, 1].
SIGNED = (
    "D: conv 8 s2, conv 8 bn, conv 16, conv 8 s2 bn, fc 12 bn; Q: fc 8 bn; "
    "G: fc 12 bn, fc 4x4x8 bn, up 16 bn, up 8, up 8 s2+1 bn, up 3 s2+1 tanh"
)
FILES = {
    "safetensors": ["model.safetensors", "infogan_networks.py"],
    "onnx": ["generator.onnx", "encoder.onnx"],
    "pt2": ["generator.pt2", "encoder.pt2"],
    "hub": ["model.safetensors", "infogan_networks.py", "config.json", "traversal.png", "README.md"],
}
PACKAGES = {"safetensors": ["safetensors"], "hub": ["safetensors"], "pt2": []}
PACKAGES["onnx"] = ["onnx", "onnxscript", "onnxruntime"]


def need(to: str) -> None:
    for package in PACKAGES[to]:
        pytest.importorskip(package)


@pytest.fixture(scope="session")
def signed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two updates of the network SIGNED, for reading only."""
    folder = tmp_path_factory.mktemp("signed")
    images = np.random.default_rng(0).integers(0, 256, (24, 19, 19, 3), np.uint8)
    np.save(folder / "data.npy", images)
    flags = ["--data", str(folder / "data.npy"), "--network", SIGNED, "--image-size", "19", "--steps", "2"]
    flags += ["--batch-size", "8", "--latents", "noise=3:uniform,cat=0.7/0.2/0.1,cat=2,uniform=2,normal=1"]
    assert train_main([*flags, "--device", "cpu", "--out", str(folder / "run")]) == 0
    return folder / "run"


@functools.cache
def loaded(folder: Path) -> Run:
    """The run, whose encoder is made once."""
    return load_run(folder, device="cpu")


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str, str], tuple[Run, Path, str]]:
    """The run of a fixture, the folder to which the command exported it, and what the command printed."""

    @functools.cache
    def made(name: str, to: str) -> tuple[Run, Path, str]:
        need(to)
        folder = request.getfixturevalue(name)
        out = tmp_path_factory.mktemp(f"{name}-{to}") / "out"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert verb.main([str(folder), "--device", "cpu", "--to", to, "--out", str(out)]) == 0
        return loaded(folder), out, printed.getvalue()

    return made


def networks(folder: Path, to: str) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, Any]]:
    """The networks in a folder by name and their metadata, loaded as docs/export.md says."""
    result: dict[str, Callable[[Tensor], Tensor]] = {}
    if to in ("safetensors", "hub"):
        from safetensors import safe_open

        generator, encoder = runpy.run_path(str(folder / "infogan_networks.py"))["load"]()
        result = {"generator": generator, "encoder": encoder}
        with safe_open(folder / "model.safetensors", "pt") as file:
            return result, json.loads(file.metadata()["infogan_fast"])
    texts = []
    for part, (given, made) in {"generator": ("latents", "images"), "encoder": ("images", "codes")}.items():
        if to == "pt2":
            extra = {"infogan_fast": ""}
            result[part] = torch.export.load(folder / f"{part}.pt2", extra_files=extra).module()
            texts.append(extra["infogan_fast"])
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(folder / f"{part}.onnx")
            texts.append(session.get_modelmeta().custom_metadata_map["infogan_fast"])

            def run(x: Tensor, session: Any = session, given: str = given, made: str = made) -> Tensor:
                return torch.from_numpy(session.run([made], {given: x.numpy()})[0])

            result[part] = run
    assert texts[0] == texts[1]
    return result, json.loads(texts[0])


def read(answers: Tensor, metadata: dict[str, Any]) -> dict[str, Tensor]:
    """What Run.encode gives, by the metadata alone."""
    result = {}
    for code in metadata["codes"]:
        (what, columns) = next(iter(code["answers"].items()))
        own = answers[:, slice(*columns)]
        if code["kind"] == "categorical":
            assert what == "logits" and own.shape[1] == code["size"]
            result[code["name"]] = own.argmax(1)
        else:
            assert what == ("logit" if code["kind"] == "bernoulli" else "mean") and own.shape[1] == 1
            result[code["name"]] = own[:, 0].sigmoid() if what == "logit" else own[:, 0]
    return result


@pytest.mark.parametrize("to", FILES)
@pytest.mark.parametrize("name", ["strokes_run", "colour_run", "signed_run"])
def test_networks_are_the_run_s(
    exported: Callable[[str, str], tuple[Run, Path, str]], name: str, to: str
) -> None:
    run, folder, printed = exported(name, to)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES[to])
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(folder / file) for file in FILES[to]]
    compared = [line for line in lines if " of the run's" in line]
    assert sum(line.count("images within") for line in compared) == 1
    assert sum(line.count("codes within") for line in compared) == 1

    found, metadata = networks(folder, to)
    latents = draw_inputs(run.generator, run.spec, 20, seed=7)
    images = run.generator(latents).contiguous()
    answers = run.encoder(images)
    for batch in (1, 2, 5, 20):
        made = found["generator"](latents[:batch])
        assert made.dtype == torch.float32
        torch.testing.assert_close(made, images[:batch], atol=1e-5, rtol=0)
        torch.testing.assert_close(found["encoder"](images[:batch]), answers[:batch], atol=1e-4, rtol=1e-4)
    # A row has the same numbers whatever else is in the batch.
    torch.testing.assert_close(
        found["generator"](latents[9:10])[0], found["generator"](latents)[9], atol=1e-6, rtol=0
    )
    # Codes by the columns of the metadata, there and back.
    own = run.encode(images)
    for code, values in read(found["encoder"](found["generator"](latents)), metadata).items():
        if values.is_floating_point():
            torch.testing.assert_close(values, own[code], atol=1e-4, rtol=1e-4)
        else:
            assert torch.equal(values, own[code])


@pytest.mark.parametrize("to", FILES)
def test_the_metadata_describe_the_columns(
    exported: Callable[[str, str], tuple[Run, Path, str]], to: str
) -> None:
    _, folder, _ = exported("strokes_run", to)
    _, metadata = networks(folder, to)
    if to == "hub":
        assert json.loads((folder / "config.json").read_text()) == metadata
    assert metadata.pop("network").startswith("D: conv 64 s2, ")
    assert metadata == {
        "format": "infogan_fast export 1",
        "version": infogan_fast.__version__,
        "updates": 4,
        "leaky_slope": 0.1,
        "images": {"size": 16, "channels": 1, "range": [0, 1]},
        "latent_columns": 9,
        "answer_columns": 6,
        "noise": {"size": 4, "prior": "N(0, 1)", "latents": [0, 4]},
        "codes": [
            {
                "name": "c1",
                "kind": "categorical",
                "size": 3,
                "prior": [1 / 3, 1 / 3, 1 / 3],
                "latents": [4, 7],
                "answers": {"logits": [0, 3]},
            },
            {
                "name": "c2",
                "kind": "uniform",
                "size": 1,
                "prior": "U(-1, 1)",
                "latents": [7, 8],
                "answers": {"mean": [3, 4], "log_variance": [5, 6]},
            },
            {
                "name": "c3",
                "kind": "bernoulli",
                "size": 1,
                "prior": "0 or 1, each with probability 1/2",
                "latents": [8, 9],
                "answers": {"logit": [4, 5]},
            },
        ],
    }


def test_a_fixed_variance_and_priors_are_described(
    exported: Callable[[str, str], tuple[Run, Path, str]],
) -> None:
    _, metadata = networks(exported("colour_run", "pt2")[1], "pt2")
    assert metadata["codes"][1] == {
        "name": "c2",
        "kind": "normal",
        "size": 1,
        "prior": "N(0, 1)",
        "sigma": 0.5,
        "latents": [6, 7],
        "answers": {"mean": [2, 3]},
    }
    _, metadata = networks(exported("signed_run", "pt2")[1], "pt2")
    assert metadata["network"] == SIGNED
    assert metadata["noise"]["prior"] == "U(-1, 1)"
    assert metadata["codes"][0]["prior"] == pytest.approx([0.7, 0.2, 0.1])


@pytest.mark.parametrize(
    ("to", "file"), [("onnx", "generator.onnx"), ("onnx", "encoder.onnx"), ("pt2", "encoder.pt2")]
)
def test_files_name_no_files_of_this_machine(
    exported: Callable[[str, str], tuple[Run, Path, str]], to: str, file: str
) -> None:
    content = (exported("strokes_run", to)[1] / file).read_bytes()
    assert b"site-packages" not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_onnx_has_any_number_of_rows_and_one_file(
    exported: Callable[[str, str], tuple[Run, Path, str]],
) -> None:
    onnx = pytest.importorskip("onnx")
    folder = exported("strokes_run", "onnx")[1]
    for part, given, made in (("generator", "latents", "images"), ("encoder", "images", "codes")):
        model = onnx.load(folder / f"{part}.onnx", load_external_data=False)
        (source,), (target,) = model.graph.input, model.graph.output
        assert (source.name, target.name) == (given, made)
        assert source.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert target.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert not any("Normalization" in node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", ["strokes_run", "signed_run"])
def test_the_script_needs_no_infogan_fast(
    exported: Callable[[str, str], tuple[Run, Path, str]], name: str, tmp_path: Path
) -> None:
    run, out, _ = exported(name, "safetensors")
    folder = tmp_path / "elsewhere"
    shutil.copytree(out, folder)
    blocked = "import sys; sys.modules['infogan_fast'] = None; "
    latents = draw_inputs(run.generator, run.spec, 5, seed=3)
    np.save(folder / "latents.npy", latents.numpy())
    code = blocked + (
        "import torch, numpy; from infogan_networks import load; generator, encoder = "
        "load('model.safetensors'); images = generator(torch.from_numpy(numpy.load('latents.npy'))); "
        "numpy.savez('made.npz', images=images, codes=encoder(images))"
    )
    script = blocked + "import runpy; runpy.run_path('infogan_networks.py', run_name='__main__')"
    for text in (code, script):
        done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    made = np.load(folder / "made.npz")
    images = run.generator(latents).contiguous()
    np.testing.assert_allclose(made["images"], images.numpy(), atol=1e-5)
    np.testing.assert_allclose(made["codes"], run.encoder(images).numpy(), atol=1e-4, rtol=1e-4)
    with Image.open(folder / "samples.png") as picture:
        assert picture.size == (8 * run.image_size, 8 * run.image_size)
        assert picture.mode == ("L" if run.channels == 1 else "RGB")
        pixels = np.asarray(picture)
    # The first cell of the second row is the ninth image.
    draw = runpy.run_path(str(folder / "infogan_networks.py"))["draw"]
    torch.manual_seed(0)
    ninth = (run.generator(draw(64))[8] * 255).round().permute(1, 2, 0).squeeze(-1).numpy()
    size = run.image_size
    assert abs(pixels[size : 2 * size, :size].astype(float) - ninth).max() <= 1


def test_latents_are_drawn_from_their_priors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    spec = LatentSpec.parse("noise=2:uniform,cat=0.7/0.2/0.1,cat=4,uniform=1,normal=1,bernoulli=1")
    plain = {"generator": nn.Sequential(nn.Linear(spec.latent_dim, 1))}
    (tmp_path / "a.py").write_bytes(safetensors_file.script(plain, spec, 16, 1, "model.safetensors"))
    torch.manual_seed(0)
    latents = runpy.run_path(str(tmp_path / "a.py"))["draw"](20_000)
    assert latents.shape == (20_000, spec.latent_dim)
    assert latents.dtype == torch.float32
    mean = torch.tensor([0, 0, 0.7, 0.2, 0.1, 0.25, 0.25, 0.25, 0.25, 0, 0, 0.5])
    variance = torch.tensor([1 / 3, 1 / 3, *(p * (1 - p) for p in mean[2:9].tolist()), 1 / 3, 1, 0.25])
    torch.testing.assert_close(latents.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(latents.var(0), variance, atol=0.03, rtol=0)
    assert (latents[:, 2:5].sum(1) == 1).all() and (latents[:, 5:9].sum(1) == 1).all()
    assert latents[:, :2].abs().max() <= 1 and set(latents[:, 11].tolist()) == {0.0, 1.0}


@torch.no_grad()
@pytest.mark.parametrize(
    ("network", "size", "channels"),
    [
        ("auto", 17, 3),
        ("mnist", 28, 1),
        (SIGNED, 19, 3),
        ("D: conv 8 s2, conv 8 s2; Q:; G: fc 4x4x8, up 8 s2, up 1 s2 sigmoid", 16, 1),
        ("D: conv 8 s2, conv 8 s2; Q: fc 5; G: fc 4x4x8 bn, up 8 s2, up 1 s2 tanh", 16, 1),
        ("D: conv 8 s2 sn, conv 8 s2 sn, fc 8 sn; Q: fc 5 sn; G: fc 4x4x8, up 8 s2, up 1 s2 tanh", 16, 1),
    ],
)
def test_folding_leaves_a_network_as_it_is(network: str, size: int, channels: int) -> None:
    spec = LatentSpec.parse("noise=5,cat=3,uniform=1")
    whole = InfoGAN(spec, size, channels, network=network, slope=0.2)
    draws = torch.Generator().manual_seed(0)
    for module in whole.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                tensor.copy_(torch.randn(tensor.shape, generator=draws))
            assert module.running_var is not None
            module.running_var.copy_(torch.rand(module.num_features, generator=draws) + 0.1)
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            # Large enough for images and answers to differ from pixel to pixel.
            own_weight(module).copy_(torch.randn(module.weight.shape, generator=draws) * 0.1)
            if module.bias is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=draws) * 0.1)
    whole.eval().requires_grad_(False)
    encoder = nn.Sequential(whole.trunk, whole.q_head)
    latents = torch.randn(6, spec.latent_dim, generator=draws)
    images = torch.rand(6, channels, size, size, generator=draws)
    made, answers = whole.generator(latents), encoder(images)
    assert made.var() > 1e-4 and answers.var() > 1e-4
    torch.testing.assert_close(folded_generator(whole.generator)(latents), made, atol=1e-5, rtol=0)
    torch.testing.assert_close(folded_encoder(encoder)(images), answers, atol=1e-4, rtol=1e-4)
    assert torch.equal(whole.generator(latents), made)
    modules = [*folded_generator(whole.generator), *folded_encoder(encoder)]
    assert {type(module).__module__.partition(".")[0] for module in modules} == {"torch"}
    assert not any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in modules)


def altered(network: nn.Sequential) -> nn.Sequential:
    """The network with one weight that is not its own."""
    result = copy.deepcopy(network)
    next(result.parameters()).view(-1)[0] += 1
    return result


@pytest.mark.parametrize("part", ["generator", "encoder"])
@pytest.mark.parametrize("to", FILES)
def test_a_file_with_another_weight_is_an_error(
    strokes_run: Path, to: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(to)
    run, out = loaded(strokes_run), tmp_path / "out"
    if to in ("safetensors", "hub"):
        module: Any = safetensors_file
        name = "safetensors_bytes"
    else:
        module, name = {"onnx": (onnx_file, "onnx_bytes"), "pt2": (pt2_file, "pt2_bytes")}[to]
    real = getattr(module, name)

    def write(given: Any, *rest: Any) -> bytes:
        if isinstance(given, dict):
            return real({**given, part: altered(given[part])}, *rest)
        return real(
            altered(given) if isinstance(given[0], nn.Linear) == (part == "generator") else given, *rest
        )

    monkeypatch.setattr(module, name, write)
    # Files of an earlier export stay as they are.
    out.mkdir()
    earlier = {file: f"old {file}" for file in FILES[to]}
    earlier |= {"config.json": '{"format": "infogan_fast export 1"}'} if to == "hub" else {}
    for file, text in earlier.items():
        (out / file).write_text(text)
    with pytest.raises(
        UserError, match=r"makes differ by up to \S+ from the run's, and \S+ is allowed; noth"
    ):
        export(run, to, out)
    assert {path.name: path.read_text() for path in out.iterdir()} == earlier
    if part == "generator":
        monkeypatch.undo()
        assert sorted(export(run, to, out)) == sorted(out.iterdir()) == sorted(out / f for f in FILES[to])
        assert (out / FILES[to][0]).read_bytes() != earlier[FILES[to][0]].encode()


def test_answers_that_are_no_numbers_are_an_error(
    strokes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pt2_file, "load_pt2", lambda path: lambda x: torch.full((len(x), 1, 16, 16), torch.nan)
    )
    with pytest.raises(UserError, match="differ by up to nan"):
        export(loaded(strokes_run), "pt2", tmp_path / "out")
    monkeypatch.setattr(pt2_file, "load_pt2", lambda path: lambda x: torch.zeros(len(x), 3, 16, 16))
    with pytest.raises(UserError, match=r"makes images torch.float32 \(1, 3, 16, 16\) and the run"):
        export(loaded(strokes_run), "pt2", tmp_path / "out")


def test_the_default_folders(strokes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("hub")
    folder = tmp_path / "run"
    shutil.copytree(strokes_run, folder)
    flags = [str(folder), "--device", "cpu", "--only", "generator", "--checkpoint"]
    flags.append(str(folder / "checkpoints" / "step-00000002.pt"))
    for to, where in (("safetensors", "export"), ("hub", "export/hub")):
        assert verb.main([*flags, "--to", to]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in lines] == [str(folder / where / f) for f in FILES[to]]
        assert "codes" not in lines[0]
        found, metadata = networks(folder / where, to)
        assert found["encoder"] is None
        assert metadata["updates"] == 2
    earlier = load_run(folder, checkpoint_file=flags[-1], device="cpu")
    latents = draw_inputs(earlier.generator, earlier.spec, 4)
    torch.testing.assert_close(found["generator"](latents), earlier.generator(latents), atol=1e-5, rtol=0)
    card = (folder / "export/hub/README.md").read_text()
    assert "the encoder is not here" in card
    assert "answers = " not in card
    assert "at 2 updates" in card


def test_safetensors_of_another_name(strokes_run: Path, tmp_path: Path) -> None:
    need("safetensors")
    run = loaded(strokes_run)
    files = export(run, "safetensors", tmp_path / 'the "digits".safetensors', only="generator")
    assert [path.name for path in files] == ['the "digits".safetensors', "infogan_networks.py"]
    generator, encoder = runpy.run_path(str(tmp_path / "infogan_networks.py"))["load"]()
    latents = draw_inputs(run.generator, run.spec, 4)
    torch.testing.assert_close(generator(latents), run.generator(latents), atol=1e-5, rtol=0)
    assert encoder is None
    # The Python file of one run would leave another's weights without their networks.
    with pytest.raises(UserError, match='in that folder is of the "digits"'):
        export(run, "safetensors", tmp_path / "others.safetensors", only="generator")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "infogan_networks.py",
        'the "digits".safetensors',
    ]
    export(run, "safetensors", tmp_path / 'the "digits".safetensors', only="generator")
    (tmp_path / 'the "digits".safetensors').unlink()
    export(run, "safetensors", tmp_path / "others.safetensors", only="generator")


def test_the_card_names_the_version_that_trained_and_what_the_picture_shows(tmp_path: Path) -> None:
    flags = [
        "--images",
        "20",
        "--image-size",
        "16",
        "--batch-size",
        "8",
        "--steps",
        "1",
        "--latents",
        "cat=3",
    ]
    assert train_main([*flags, "--network", narrow(), "--out", str(tmp_path)]) == 0
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["versions"]["infogan_fast"] = "0.0.7"
    path.write_text(json.dumps(config))
    run = load_run(tmp_path)
    card = hub_folder.card(run, describe(run), None, with_encoder=False).decode()
    assert "trained by infogan_fast 0.0.7 on 20 images" in card
    assert "![Images of each category; a column has the same noise](traversal.png)" in card


@pytest.mark.parametrize("to", ["safetensors", "hub", "onnx"])
def test_a_missing_package_names_the_extra(
    strokes_run: Path,
    to: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def loaded(*args: object, **how: object) -> None:
        raise AssertionError("the images are loaded first")

    monkeypatch.setattr("infogan_fast.analysis.run.load_images", loaded)
    for package in PACKAGES[to]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            if package == "safetensors":
                patch.setitem(sys.modules, "safetensors.torch", None)
            for other in PACKAGES[to]:
                if other != package:
                    patch.setitem(sys.modules, other, pytest)  # a module that has a file
            assert verb.main([str(strokes_run), "--to", to, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert f"needs {package} (" in error
        assert "pip install 'infogan_fast[export]'" in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_missing_images_are_named_or_left_out(
    colour_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(colour_run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["data"] = str(tmp_path / "gone.npz")
    (folder / "config.json").write_text(json.dumps(config))
    flags = [str(folder), "--device", "cpu", "--to", "pt2"]
    assert verb.main(flags) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    for part in (
        "the encoder needs batch statistics",
        "gone.npz",
        "--data or --data-dir",
        "--only generator",
    ):
        assert part in error
    assert not (folder / "export").exists()
    assert verb.main([*flags, "--only", "generator"]) == 0
    assert [path.name for path in (folder / "export").iterdir()] == ["generator.pt2"]
    # Named again, they give the statistics that the run's own would.
    assert verb.main([*flags, "--data", str(colour_run.parent / "data.npz")]) == 0
    run = load_run(colour_run, device="cpu")
    images = torch.rand(4, 3, 16, 16)
    encoder = torch.export.load(folder / "export/encoder.pt2").module()
    torch.testing.assert_close(encoder(images), run.encoder(images), atol=1e-4, rtol=1e-4)


def test_wrong_destinations(
    strokes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need("hub")
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("notes").mkdir()
    Path("notes/README.md").write_text("mine")
    Path("odd").mkdir()
    Path("odd/config.json").write_text("[]")
    Path("taken/generator.pt2").mkdir(parents=True)
    for to, out, message in (
        ("pt2", "file", "--out file: file is a file; give a folder"),
        ("pt2", "file/below", "--out file/below: file is a file; give a folder"),
        ("pt2", "a.pt2", "--out a.pt2: --to pt2 writes several files; give a folder"),
        ("hub", "a.safetensors", "--out a.safetensors: --to hub writes several files; give a folder"),
        ("hub", "notes", "--out notes: is not empty, and no earlier export; give a new folder"),
        ("hub", "odd", "--out odd: is not empty, and no earlier export"),
        ("hub", str(strokes_run), "is not empty, and no earlier export"),
        ("pt2", "taken", "--out taken: cannot be written (Is a directory)"),
    ):
        assert verb.main([str(strokes_run), "--device", "cpu", "--to", to, "--out", out]) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert len(printed.err.splitlines()) == 1
        assert printed.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "notes", "odd", "taken"]
    assert [path.name for path in Path("taken").iterdir()] == ["generator.pt2"]
    assert [path.name for path in Path("notes").iterdir()] == ["README.md"]
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert verb.main([str(strokes_run), "--to", "pt2", "--out", "notes/new"]) == 2
    assert "--out notes/new: notes cannot be written" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(
    strokes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        export(loaded(strokes_run), "pt2", tmp_path / "out", only="generator")
    assert not (tmp_path / "out").exists()


def test_wrong_arguments(strokes_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(FORMATS) == sorted(verb._FORMATS)
    for flags, message in (
        ([], "arguments are required: --to"),
        (["--to", "tflite"], "invalid choice: 'tflite'"),
        (["--to", "pt2", "--evaluation", "a.json"], "--evaluation a.json is for --to hub; leave it out"),
    ):
        assert verb.main([str(strokes_run), *flags]) == 2
        assert message in capsys.readouterr().err
    run = loaded(strokes_run)
    with pytest.raises(UserError, match="--to is 'tflite'; expected safetensors, onnx, pt2, hub"):
        export(run, "tflite")
    with pytest.raises(UserError, match="--only is 'encoder'; expected generator"):
        export(run, "pt2", only="encoder")


def test_the_card_has_the_run_s_figures(
    exported: Callable[[str, str], tuple[Run, Path, str]],
) -> None:
    run, folder, _ = exported("strokes_run", "hub")
    card = (folder / "README.md").read_text()
    header = card.split("---\n")[1]
    assert "library_name: pytorch\n" in header and "- infogan\n" in header
    assert "license" not in header and "**License:** none is given" in card
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    figures = [f"{rows[-1]['L_' + c]:.3f} | {rows[-1]['H_' + c]:.3f}" for c in ("c1", "c2", "c3")]
    for line in (
        "| noise | | N(0, 1) | 0 to 3 | | | |",
        f"| c1 | categorical, 3 categories | uniform | 4 to 6 | logits 0 to 2 | {figures[0]} |",
        f"| c2 | uniform | U(-1, 1) | 7 | mean 3, log variance 5 | {figures[1]} |",
        f"| c3 | bernoulli | 0 or 1, each with probability 1/2 | 8 | logit 4 | {figures[2]} |",
    ):
        assert f"{line}\n" in card
    assert "at 4 updates" in card and "on 40 images" in card and "grey" in card
    assert "## Evaluation" not in card
    with Image.open(folder / "traversal.png") as picture:
        assert (np.asarray(picture) == np.asarray(run.traversal())).all()
    # Its snippet runs as it is.
    code = card.split("```python\n")[1].split("```")[0] + "print(tuple(images.shape), tuple(answers.shape))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    assert done.stdout == "(16, 1, 16, 16) (16, 6)\n", done.stderr


@pytest.mark.parametrize("as_tensor", [False, True])
def test_statistics_of_other_images_in_memory(strokes_run: Path, tmp_path: Path, as_tensor: bool) -> None:
    need("safetensors")
    run = loaded(strokes_run)
    images: Any = np.random.default_rng(0).integers(0, 256, (40, run.image_size, run.image_size), np.uint8)
    images = torch.from_numpy(images) if as_tensor else images
    export(run, "safetensors", tmp_path, data=images)  # compared with the run's encoder for these images
    with pytest.raises(UserError, match="--data-dir are for the encoder, which --only generator leaves out"):
        export(run, "safetensors", tmp_path, data=images, only="generator")


def test_no_encoder_of_an_earlier_export_stays_with_a_new_generator(
    strokes_run: Path, tmp_path: Path
) -> None:
    run = loaded(strokes_run)
    export(run, "pt2", tmp_path)
    (tmp_path / "encoder.onnx").touch()  # of another format, whose generator stays too
    export(run, "pt2", tmp_path, only="generator")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.onnx", "generator.pt2"]


def test_an_evaluation_of_other_images_is_named_without_paths(strokes_run: Path) -> None:
    run = loaded(strokes_run)
    why = "/home/me/faces: no test split; expected an array named test_images"
    data = {"source": "/home/me/faces.npz: 10 images", "own": False, "held_out": False, "why_not": why}
    public = hub_folder._public(data, run)
    assert public["source"] == "faces.npz: 10 images" and public["why_not"] == "it has no test split"
    assert hub_folder._public({**data, "own": True}, run)["source"] == hub_folder._title(run)


def test_the_card_has_an_evaluation(
    strokes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("hub")
    folder = tmp_path / "secret place" / "run"
    shutil.copytree(strokes_run, folder)
    c1 = {
        "kind": "categorical",
        "L": 0.75,
        "H": 1.1,
        "labels": ["``` <b>", "8"],
        "assignment": ["8", None, None],
    }
    c1 |= {"accuracy": 0.625, "nmi": 0.5, "ari": 0.25, "table": [[1, 2], [3, 4], [5, 6]]}
    c1 |= {"intervals": {"L": [0.5, 1.0], "accuracy": [0.5, 0.75], "nmi": None, "ari": None}}
    c1 |= {"chance": {"accuracy": 0.125, "nmi": 0.0, "ari": 0.0}}
    source = "my faces: 10 images from /home/me/secret place/faces"
    found: dict[str, Any] = {"run": str(folder), "updates": 4, "generator": "moving average of the weights"}
    found |= {"latents": str(loaded(strokes_run).spec), "codes": {"c1": c1}, "disentanglement": None}
    found |= {"data": {"source": source, "held_out": True, "why_not": None}, "quality": None}
    text = json.dumps(found)
    (folder / "evaluation.json").write_text(text)
    (tmp_path / "other.json").write_text(json.dumps({**found, "updates": 3}))
    (tmp_path / "seed.json").write_text(json.dumps({**found, "digest": "0" * 16}))
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "short.json").write_text(json.dumps({**found, "codes": {"c1": {}}}))
    flags = [str(folder), "--device", "cpu", "--to", "hub", "--out", str(tmp_path / "hub"), "--only"]
    flags.append("generator")
    for name, message in (
        ("none.json", "none.json: cannot be read (No such file or directory)"),
        ("other.json", "is of 3 updates with the latents noise=4,cat=3,uniform=1,bernoulli=1, and this is"),
        (
            "seed.json",
            "seed.json: is of other weights: of another run, or of one that was trained again; evalu",
        ),
        ("half.json", "half.json: is not what evaluate --json writes"),
        ("list.json", "list.json: is not what evaluate --json writes"),
        ("short.json", "short.json: is not what evaluate --json writes"),
    ):
        assert verb.main([*flags, "--evaluation", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "hub").exists()
    assert verb.main(flags) == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    block = card.split("## Evaluation\n\n````text\n")[1].split("\n````\n")[0]
    assert "``` <b>" in block
    assert "0.625" in block
    assert "secret place" not in card


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("strokes", "strokes"),
        ("/home/me/my <i>faces & *more*.npz", r"my &lt;i>faces &amp; \*more\*.npz"),
        ("/home/me/a\n# b_c", r"a \# b\_c"),
    ],
)
def test_names_of_data_are_shown_as_they_are(strokes_run: Path, name: str, shown: str) -> None:
    import dataclasses

    run = loaded(strokes_run)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=name))
    from infogan_fast.sharing.metadata import describe

    card = hub_folder.card(run, describe(run), None, with_encoder=True).decode()
    assert f"# InfoGAN of {shown}\n" in card
    assert "/home/me" not in card


def test_three_lines_in_a_notebook(strokes_run: Path, tmp_path: Path) -> None:
    run = infogan_fast.load_run(strokes_run)
    files = export(run, "pt2", tmp_path / "there", data="strokes")
    assert [path.name for path in files] == ["generator.pt2", "encoder.pt2"]
    assert [list(made) for made in files.values()] == [["images"], ["codes"]]
    assert all(0 <= value < 1e-4 for made in files.values() for value in made.values())
