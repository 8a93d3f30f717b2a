"""The demo: what its page computes, what it says to whom, and how it starts and ends."""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks.narrow import narrow
from PIL import Image
from torch import Tensor

import infogan_fast
from infogan_fast import demo
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.data import load_images
from infogan_fast.errors import RunWarning, UserError
from infogan_fast.pictures.grids import image_grid, scale_for
from infogan_fast.pictures.samples import to_pixels
from infogan_fast.sharing import demo_answers, demo_page
from infogan_fast.sharing.demo_answers import CATEGORIES, NOISES, ONE, Answers, prepare
from infogan_fast.train import main as train_main

#: Writes a line for each connection and look-up that is not of this machine; Python imports it at its start.
RECORDER = """
import os, sys

def record(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in (None, "127.0.0.1", "localhost", "::1"):
        with open(os.environ["RECORD"], "a") as file:
            file.write(f"{event} {host}\\n")

sys.addaudithook(record)
"""


@contextlib.contextmanager
def served(run: Path, folder: Path, *, quiet: bool = True) -> Iterator[str]:
    """The address of the command's page of a run. At the end Ctrl-C is sent: it ends with status 0, has
    written the address alone and leaves nothing behind; and it has connected to no other machine.

    Args:
        folder: for what it writes; "errors" is what it wrote on stderr.
        quiet: whether that should be nothing.
    """
    (folder / "sitecustomize.py").write_text(RECORDER)
    (folder / "tmp").mkdir()
    paths = [str(folder), str(Path(infogan_fast.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RECORD": str(folder / "record")}
    environment |= {"TMPDIR": str(folder / "tmp"), "GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0"}
    command = [sys.executable, "-m", "infogan_fast.demo", str(run), "--port", "0", "--device", "cpu"]
    with open(folder / "errors", "w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, cwd=folder
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), (folder / "errors").read_text()
            yield line.strip()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert process.stdout.read() == ""
            if quiet:
                assert (folder / "errors").read_text() == ""
            assert not (folder / "record").exists(), (folder / "record").read_text()
            assert list((folder / "tmp").iterdir()) == []
        finally:
            process.kill()
            process.wait()


def trained(out: Path, latents: str) -> Path:
    flags = ["--images", "40", "--image-size", "16", "--batch-size", "8", "--steps", "1", "--device", "cpu"]
    assert train_main([*flags, "--network", narrow(), "--latents", latents, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def uncategorised_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("uncategorised") / "run", "noise=4,uniform=1,normal=1")


@pytest.fixture(scope="module")
def categorical_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("categorical") / "run", "noise=4,cat=3,cat=2")


CHOSEN: dict[str, dict[str, Any]] = {
    "strokes_run": {"c1": 2, "c2": -0.35, "c3": True},
    "colour_run": {"c1": 1, "c2": 1.5},
    "uncategorised_run": {"c1": 0.4, "c2": -2},
    "categorical_run": {"c1": 1, "c2": 1},
}


@pytest.fixture(params=list(CHOSEN))
def chosen(request: pytest.FixtureRequest) -> tuple[Run, dict[str, Any]]:
    """A run, and values for its codes."""
    return load_run(request.getfixturevalue(request.param), device="cpu"), CHOSEN[request.param]


def pixels(picture: Image.Image, channels: int) -> Tensor:
    """A picture as uint8 [C, S, S]."""
    assert picture.mode == ("L" if channels == 1 else "RGB")
    array = torch.from_numpy(np.array(picture))
    return array[None] if channels == 1 else array.permute(2, 0, 1)


def same(picture: Image.Image, images: Tensor, columns: int) -> bool:
    wanted = image_grid(to_pixels(images), columns, scale=scale_for(images.shape[-1]))
    return np.array_equal(np.asarray(picture), np.asarray(wanted))


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def test_images_are_those_of_generate(chosen: tuple[Run, dict[str, Any]]) -> None:
    run, values = chosen
    answers = prepare(run, None, None)
    one = answers.images(ONE, 7, values)
    assert torch.equal(pixels(one, run.channels), to_pixels(run.generate(1, seed=7, **values))[0])
    assert same(answers.images(NOISES, 7, values), run.generate(16, seed=7, **values), 4)
    if not run.spec.categorical_codes:
        with pytest.raises(UserError, match="'each category' cannot be shown of this run"):
            answers.images(CATEGORIES, 7, values)
        return
    rows = [run.generate(8, seed=7, **{**values, "c1": i}) for i in range(run.spec.codes[0].size)]
    assert same(answers.images(CATEGORIES, 7, values), torch.cat(rows), 8)


def test_a_reading_is_that_of_encode(chosen: tuple[Run, dict[str, Any]]) -> None:
    run, _ = chosen
    answers = prepare(run, None, None)
    assert len(answers.examples) == 16
    for image in answers.examples[:4]:
        reading, wanted = answers.read(image), run.encode(image[None])
        for code in run.spec.codes:
            value = float(wanted[code.name][0])
            if code.is_categorical:
                shares = reading.probabilities[code.name]
                assert reading.values[code.name] == value == int(np.argmax(shares))
                assert sum(shares) == pytest.approx(1)
            elif code.kind == "bernoulli":
                assert reading.probabilities[code.name] == [value]
                assert reading.values[code.name] == round(value)
            else:
                assert reading.values[code.name] == reading.means[code.name] == value
        remade = run.generate(9, seed=5, **reading.values)
        assert same(answers.made_of(reading, 5), remade, 3)


def test_the_spread_of_a_reading(strokes_run: Path, colour_run: Path) -> None:
    fixed = prepare(load_run(colour_run, device="cpu"), None, None)
    assert fixed.read(fixed.examples[0]).sigmas == {"c2": pytest.approx(0.5)}
    run = load_run(strokes_run, device="cpu")
    learned = prepare(run, None, None)
    output = run.encoder(learned.examples[:1].float() / 255)[0]  # logits, two columns, ln sigma^2 of c2
    assert learned.read(learned.examples[0]).sigmas == {"c2": pytest.approx(float(output[5].exp().sqrt()))}


@pytest.mark.parametrize("name", ["strokes_run", "colour_run"])
def test_a_picture_is_read_as_training_reads_it(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = load_run(request.getfixturevalue(name), device="cpu")
    answers = prepare(run, None, None)
    noise = np.random.default_rng(1).integers(0, 256, (40, 61, 4), np.uint8)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.png"
    Image.fromarray(noise).save(path)
    wanted = load_images(tmp_path / "data", image_size=16, channels=run.channels).images[0]
    assert torch.equal(answers.seen(path.read_bytes(), invert=False), wanted)
    assert torch.equal(answers.seen(path.read_bytes(), invert=True), 255 - wanted)
    clear = png(Image.new("RGBA", (20, 20)))
    assert answers.seen(clear, invert=False).unique().tolist() == [255]
    assert answers.seen(clear, invert=False, background="black").unique().tolist() == [0]


def test_pictures_that_cannot_be_read(strokes_run: Path) -> None:
    answers = prepare(load_run(strokes_run, device="cpu"), None, None)
    bomb = png(Image.new("1", (8000, 8000)))
    assert len(bomb) < 20_000
    with pytest.raises(UserError, match="has 8000 x 8000 pixels; the page takes 50,000,000 at most"):
        answers.seen(bomb, invert=False)
    larger = png(Image.new("1", (20_000, 20_000)))
    with pytest.raises(UserError, match="has far too many pixels"):
        answers.seen(larger, invert=False)
    whole = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)))
    for damaged in (whole[: len(whole) // 2], b"", b"<svg>"):
        with pytest.raises(UserError, match=r"^the picture: ") as caught:
            answers.seen(damaged, invert=False)
        assert "--skip-damaged" not in str(caught.value)


def test_data_that_is_not_at_hand(colour_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(colour_run, device="cpu")
    assert not prepare(run, None, None).missing
    run = load_run(colour_run, device="cpu")

    def absent(*_: object, **__: object) -> None:
        raise UserError("data<b>.npz: gone")

    monkeypatch.setattr("infogan_fast.analysis.run.load_images", absent)
    answers = prepare(run, None, None)
    assert answers.encoder is None
    assert answers.missing == "data<b>.npz: gone"
    assert answers.images(ONE, 1, {"c1": 0}).size == (16, 16)
    with pytest.raises(UserError, match="data<b>"):
        answers.read(torch.zeros(3, 16, 16, dtype=torch.uint8))
    with pytest.raises(UserError, match="data<b>"):
        prepare(run, "other.npz", None)
    text = page_text(answers)
    assert html.escape("data<b>.npz: gone") in text
    assert "<b>" not in text
    assert "<code>--data NAME|PATH</code>" in text


def test_other_data(colour_run: Path, tmp_path: Path) -> None:
    run = load_run(colour_run, device="cpu")
    other = np.random.default_rng(5).integers(0, 256, (9, 16, 16, 3), np.uint8)
    np.save(tmp_path / "other.npy", other)
    answers = prepare(run, str(tmp_path / "other.npy"), None)
    assert np.array_equal(answers.examples.permute(0, 2, 3, 1).numpy(), other)
    encoder = run.encoder_for(data=str(tmp_path / "other.npy"))
    output = encoder(answers.examples[:1].float() / 255)[0]
    assert answers.read(answers.examples[0]).means["c2"] == pytest.approx(float(output[2]), abs=1e-6)


def test_names_of_categories(strokes_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(strokes_run, folder)
    run = load_run(folder, device="cpu")
    assert demo_answers.category_names(run) == {"c1": ["0", "1", "2"]}
    found: dict[str, Any] = {"latents": str(run.spec), "updates": run.updates}
    found["codes"] = {"c1": {"assignment": ["7", None, "a<b"]}, "c2": {}, "c3": {}}
    (folder / "evaluation.json").write_text(json.dumps(found))
    named = ["7 (c1 = 0)", "c1 = 1", "a<b (c1 = 2)"]
    assert demo_answers.category_names(run) == {"c1": named}
    for damaged, message in [
        (json.dumps({**found, "updates": 2}), "is of 2 updates with the latents .*, and this is a run of 4"),
        (json.dumps({**found, "digest": "0" * 16}), "is of other weights: of another run, or of one"),
        (json.dumps({**found, "codes": {"c1": {"assignment": ["7"]}}}), "names 1 of 3 categories of c1"),
        (json.dumps({**found, "codes": [1]}), "is damaged, or no evaluation"),
        ("{", "so categories have no names"),
    ]:
        (folder / "evaluation.json").write_text(damaged)
        with pytest.warns(RunWarning, match=message):
            assert demo_answers.category_names(run) == {"c1": ["0", "1", "2"]}


def page_of(answers: Answers) -> Any:
    gr = pytest.importorskip("gradio", reason="needs the extra demo")
    return demo_page.build_page(gr, answers)


def page_text(answers: Answers) -> str:
    """All that is written in the page."""
    blocks = page_of(answers).get_config_file()["components"]
    return "\n".join(str(block["props"].get("value")) for block in blocks if block["type"] == "html")


def controls(answers: Answers) -> dict[str, dict[str, Any]]:
    blocks = page_of(answers).get_config_file()["components"]
    named = {block["props"].get("elem_id"): block for block in blocks}
    return {name.removeprefix("code-"): named[name] for name in named if (name or "").startswith("code-")}


def test_a_control_for_each_code(
    strokes_run: Path, uncategorised_run: Path, categorical_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = controls(prepare(load_run(strokes_run, device="cpu"), None, None))
    assert {name: block["type"] for name, block in found.items()} == {
        "c1": "radio",
        "c2": "slider",
        "c3": "checkbox",
    }
    assert (found["c2"]["props"]["minimum"], found["c2"]["props"]["maximum"]) == (-2, 2)
    found = controls(prepare(load_run(uncategorised_run, device="cpu"), None, None))
    assert [block["type"] for block in found.values()] == ["slider", "slider"]
    answers = prepare(load_run(categorical_run, device="cpu"), None, None)
    monkeypatch.setattr(demo_page, "_MOST_BUTTONS", 2)
    assert [block["type"] for block in controls(answers).values()] == ["dropdown", "radio"]
    monkeypatch.setattr(demo_page, "_MOST_CHOICES", 2)
    found = controls(answers)
    assert (found["c1"]["type"], found["c1"]["props"]["maximum"]) == ("number", 2)
    monkeypatch.setattr(demo_answers, "MOST_CODES", 1)
    assert list(controls(answers)) == ["c1"]
    assert "The other 1 codes are drawn with the noise" in page_text(answers)


def test_user_text_is_escaped(strokes_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x>"
    shutil.copytree(strokes_run, folder)
    text = page_text(prepare(load_run(folder, device="cpu"), None, None))
    assert "&lt;img src=x&gt;" in text
    assert "<img" not in text


def test_the_folder_that_one_is_in_has_a_name(strokes_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(strokes_run)
    answers = prepare(load_run(".", device="cpu"), None, None)
    assert page_of(answers).title == f"{strokes_run.name} - InfoGAN"
    assert f"<h1>{strokes_run.name}</h1>" in page_text(answers)


def test_help_imports_neither_torch_nor_gradio() -> None:
    code = (
        "import sys; from infogan_fast.demo import main\ntry: main(['--help'])\n"
        "finally: assert not {'torch', 'gradio', 'PIL'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--port N" in done.stdout


def test_without_gradio(
    strokes_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo.main([str(strokes_run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("infogan_fast.demo: the demo page needs gradio")
    assert error.endswith("install it with pip install 'infogan_fast[demo]'\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "-1"], "--port is -1; expected 0 to 65535"),
        (["--port", "65536"], "--port is 65536"),
        (["--port", "TAKEN"], "--port TAKEN: is in use; give another one, or 0 for one that is free"),
        (["--host", "203.0.113.1"], "--host 203.0.113.1: is not an address of this machine"),
        (["--host", "a b"], "--host a b: "),
        (["--port", "0", "--data", "no-such-data"], "no-such-data: no such file or folder"),
        (["--port", "0", "--checkpoint", "no.pt"], "no.pt: there is no such checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(
    flags: list[str], message: str, strokes_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = [flag.replace("TAKEN", port) for flag in flags]
        assert demo.main([str(strokes_run), "--device", "cpu", *flags]) == 2
    printed = capsys.readouterr()
    assert message.replace("TAKEN", port) in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_addresses() -> None:
    with demo_page.listening("127.0.0.1", 0) as at:
        port = at.getsockname()[1]
        assert demo_page.url_of("127.0.0.1", at) == f"http://127.0.0.1:{port}/"
        assert demo_page.url_of("0.0.0.0", at) == f"http://127.0.0.1:{port}/"
        assert demo_page.url_of("::1", at) == f"http://[::1]:{port}/"
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert demo_page.is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.org", ""):
        assert not demo_page.is_loopback(host)


def test_a_server_for_other_machines_is_warned_of(
    strokes_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    monkeypatch.setattr(demo_page, "serve", lambda *_: None)
    flags = [str(strokes_run), "--device", "cpu", "--port", "0"]
    assert demo.main(flags) == 0
    assert capsys.readouterr().err == ""
    assert demo.main([*flags, "--host", "0.0.0.0"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("infogan_fast.demo: --host 0.0.0.0: everybody who reaches this address")


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (b"127.0.0.1:7860", True),
        (b"192.168.1.5", True),
        (b"[::1]:7860", True),
        (b"LOCALHOST:7860", True),
        (b"box.lan:7860", True),
        (b"evil.example", False),
        (b"localhost.evil.example:7860", False),
        (b"", False),
        (b"[::1", True),
        (b"\xff", False),
    ],
)
def test_names_that_the_server_answers_to(header: bytes, known: bool) -> None:
    assert demo_page._KnownHosts(None, "box.lan")._is_known(header) is known


def test_no_connection_to_another_machine() -> None:
    with demo_page._without_connections(), demo_page.listening("127.0.0.1", 0) as at:
        socket.create_connection(at.getsockname()).close()
        with pytest.raises(PermissionError, match=r"no connection to 203\.0\.113\.1"):
            socket.create_connection(("203.0.113.1", 9), timeout=1)
        with pytest.raises(PermissionError, match=r"no connection to host\.invalid"):
            socket.getaddrinfo("host.invalid", 80)
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(PermissionError):
            datagrams.sendto(b"", ("203.0.113.1", 9))
    demo_page._guard("socket.connect", (None, ("203.0.113.1", 9)))  # it is off


def ask(url: str, name: str, *values: Any) -> Any:
    """The answer of an endpoint.

    Raises:
        RuntimeError: it is an error, whose text this has.
    """
    body = json.dumps({"data": values}).encode()
    address = f"{url}gradio_api/call/{name}"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}", timeout=60) as response:
        kind, _, data = response.read().decode().strip().rpartition("event: ")[2].partition("\ndata: ")
    if kind != "complete":
        raise RuntimeError(data)
    return json.loads(data)


def fetched(url: str, file: dict[str, Any]) -> Image.Image:
    with urllib.request.urlopen(f"{url}gradio_api/file={file['path']}", timeout=60) as response:
        return Image.open(io.BytesIO(response.read()))


def uploaded(url: str, data: bytes) -> dict[str, Any]:
    """A file, as an endpoint takes it.

    Raises:
        urllib.error.HTTPError: it is refused.
    """
    head = b'--X\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=X"}
    request = urllib.request.Request(f"{url}gradio_api/upload", head + data + b"\r\n--X--\r\n", kind)
    with urllib.request.urlopen(request, timeout=60) as response:
        return {"path": json.load(response)[0], "meta": {"_type": "gradio.FileData"}}


def test_the_endpoints_of_a_server(strokes_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    run = load_run(strokes_run, device="cpu")
    answers = prepare(run, None, None)
    picture = png(Image.fromarray(np.random.default_rng(2).integers(0, 256, (30, 20), np.uint8)))
    with served(strokes_run, tmp_path, quiet=False) as url:
        # values
        made = fetched(url, ask(url, "generate", ONE, 3, 1, 0.5, True)[0])
        assert torch.equal(pixels(made, 1), to_pixels(run.generate(1, seed=3, c1=1, c2=0.5, c3=1))[0])
        for values, message in [
            ((ONE, 3, 1, 5.0, True), "c2 is 5; the page takes -2 to 2"),
            ((ONE, 3, 9, 0.5, True), "c1 is a categorical code and takes a whole number, 0 to 2; 9 is not"),
            ((ONE, 3, 1, "<b>", True), "&#x27;&lt;b&gt;&#x27; is not one"),
            ((ONE, 3, 1, 0.5, None), "c3 is a Bernoulli code and takes 0 or 1; None is not one"),
            ((ONE, None, 1, 0.5, True), "the seed of the noise is empty"),
            ((ONE, 1.5, 1, 0.5, True), "the seed of the noise is 1.5; give a whole number"),
            ((ONE, 2**63, 1, 0.5, True), "expected a 64-bit integer"),
            (("two", 3, 1, 0.5, True), "cannot be shown of this run"),
        ]:
            with pytest.raises(RuntimeError) as refused:
                ask(url, "generate", *values)
            assert message in str(refused.value)
        # pictures
        read = ask(url, "read_picture", uploaded(url, picture), False, 3)
        image = answers.seen(picture, invert=False)
        assert torch.equal(pixels(fetched(url, read[0]), 1), image)
        reading = answers.read(image)
        assert np.array_equal(np.asarray(fetched(url, read[1])), np.asarray(answers.made_of(reading, 3)))
        shares = {each["label"]: each["confidence"] for each in read[2]["confidences"]}
        assert shares == dict(zip("012", reading.probabilities["c1"], strict=True))
        assert f"{reading.means['c2']:+.2f} ± {reading.sigmas['c2']:.2f}" in read[3]
        with pytest.raises(RuntimeError, match="the picture: not a picture that Pillow can read, or damaged"):
            ask(url, "read_picture", uploaded(url, b"no picture"), False, 3)
        with pytest.raises(urllib.error.HTTPError) as caught:
            uploaded(url, bytes(21 * 2**20))
        assert caught.value.code == 413
        assert (tmp_path / "errors").read_text() == ""
        # files of the machine
        secret = strokes_run / "config.json"
        for place in (secret, "/etc/passwd", f"{tmp_path}/tmp/../errors"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{url}gradio_api/file={place}", timeout=60)
            assert caught.value.code in (403, 404)
        private = tmp_path / "private.png"  # what this page could read and show
        private.write_bytes(picture)
        for theft in (secret, private, "/etc/hostname"):
            stolen = {"path": str(theft), "meta": {"_type": "gradio.FileData"}}
            drawn = {"background": stolen, "layers": [stolen], "composite": stolen, "id": None}
            for name, given in (
                ("read_picture", [stolen, False, 3]),
                ("read_drawing", [drawn, False, 3]),
                ("generate", [stolen, 3, 1, 0.5, True]),
            ):
                with pytest.raises(RuntimeError):
                    ask(url, name, *given)
            copies = [each for each in (tmp_path / "tmp").rglob(Path(theft).name) if each.is_file()]
            assert not copies, "a file of this machine was copied to where the server gives it out"
        # names that a stranger made lead here
        for header, status in (
            ("evil.example", 403),
            ("127.0.0.1.evil.example:80", 403),
            ("localhost:1", 200),
        ):
            request = urllib.request.Request(url, headers={"Host": header})
            if status == 200:
                assert urllib.request.urlopen(request, timeout=60).status == 200
                continue
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=60)
            assert caught.value.code == status
        with urllib.request.urlopen(f"{url}gradio_api/info", timeout=60) as response:
            named = json.load(response)["named_endpoints"]
        assert sorted(named) == ["/generate", "/read_drawing", "/read_picture"]


def test_an_open_page_does_not_hold_up_the_end(strokes_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    with contextlib.ExitStack() as stack:
        with served(strokes_run, tmp_path) as url:
            stream = urllib.request.urlopen(f"{url}gradio_api/heartbeat/page", timeout=60)
            stack.callback(stream.close)
            begun = time.monotonic()
        assert time.monotonic() - begun < 15
