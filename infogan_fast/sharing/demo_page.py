"""The demo page, made of Gradio's components, and its server, which talks to nobody else."""

from __future__ import annotations

import contextlib
import errno
import functools
import html
import io
import ipaddress
import os
import platform
import random
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image
from torch import Tensor

from infogan_fast.constants import PICTURE_SEED
from infogan_fast.errors import UserError
from infogan_fast.extras import extra
from infogan_fast.latents import Code
from infogan_fast.runtime.signals import stop_signals
from infogan_fast.sharing.demo_answers import (
    CATEGORIES,
    MAX_PIXELS,
    NOISES,
    ONE,
    Answers,
    Reading,
    as_picture,
)

MAX_UPLOAD = "20mb"
#: Values of uniform and normal codes, as in traversals.
REACH = 2
_NEEDED_BY = "the demo page"
#: Categories that are buttons, and those that are a list; a code with more has a field for the number.
_MOST_BUTTONS, _MOST_CHOICES = 20, 200
_SHOWN_PROBABILITIES = 10
_CANVAS, _BRUSH = 360, 22
_GRACE = 1  # seconds for answers under way when the server ends

_CSS = """
.pixels img { image-rendering: pixelated; object-fit: contain; width: 100%; height: 100%; }
/* Gradio lays a picture's label on the picture. */
.picture .image-container { padding-top: 32px; }
#read-others table { width: 100%; }
#read-others :is(table, th, td) { border-color: var(--border-color-primary) !important; }
/* Gradio's own are too faint to be read by all. */
.min_value, .max_value, #file .or { color: var(--body-text-color) !important; }
[role="tab"][aria-selected="true"] { color: var(--body-text-color) !important; }
input[type="range"]::-webkit-slider-thumb { box-shadow: 0 0 0 1px var(--body-text-color-subdued) !important; }
input[type="range"]::-moz-range-thumb { box-shadow: 0 0 0 1px var(--body-text-color-subdued) !important; }
"""
#: Else the first stroke would only move the paper.
_TAKE_THE_BRUSH = """() => {
  let tries = 50;
  const take = () => {
    const brush = document.querySelector('#sketch button[aria-label="Brush"]');
    if (brush) brush.click();
    else if (tries-- > 0) setTimeout(take, 200);
  };
  take();
}"""


def import_gradio(folder: str) -> Any:
    """Gradio, without its calls home.

    Args:
        folder: for what it keeps of uploads and pictures.

    Raises:
        UserError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Files under these are served to the browser; by default they lie in shared and in working folders.
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_EXAMPLES_CACHE"] = os.path.join(folder, "examples")
    return extra("demo", "gradio", _NEEDED_BY)


def build_page(gr: Any, answers: Answers) -> Any:
    """The page, as Gradio's Blocks."""
    run, codes = answers.run, answers.codes
    shared = {"concurrency_id": "run", "concurrency_limit": 1, "show_progress": "hidden"}

    def reported(answer: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(answer)
        def wrapped(*values: Any) -> Any:
            try:
                return answer(*values)
            except UserError as error:  # its text enters the page as HTML
                raise gr.Error(html.escape(str(error)), print_exception=False) from None

        return wrapped

    with gr.Blocks(
        title=f"{run.folder.resolve().name} - InfoGAN", analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gr.HTML(_heading(answers))
        gr.HTML("<h2>From codes to images</h2>")
        with gr.Row():
            with gr.Column(min_width=320):
                controls = [_control(gr, code, answers.names.get(code.name, [])) for code in codes]
                with gr.Row(equal_height=True):
                    seed = gr.Number(
                        PICTURE_SEED,
                        label="Seed of the noise",
                        precision=0,
                        minimum=0,
                        maximum=2**53 - 1,
                        elem_id="seed",
                    )
                    new_noise = gr.Button("New noise", elem_id="new-noise")
                shows = [ONE, NOISES, *([CATEGORIES] if run.spec.categorical_codes else [])]
                show = gr.Radio(shows, value=ONE, label="Show", elem_id="show")
            with gr.Column(min_width=320):
                start = answers.images(ONE, PICTURE_SEED, {code.name: 0 for code in codes})
                made = _picture(gr, "Generated", "made", height=500, value=start)

        @reported
        def generate(show: str, seed: int | None, *values: Any) -> Any:
            chosen = {code.name: _in_reach(code, value) for code, value in zip(codes, values, strict=True)}
            return answers.images(show, _checked(seed), chosen)

        inputs = [show, seed, *controls]
        gr.on(
            [each.change for each in inputs],
            generate,
            inputs,
            made,
            trigger_mode="always_last",
            # Values are checked here: Gradio's own checks print a traceback for each that fails.
            preprocess=False,
            api_name="generate",
            **shared,
        )
        new_noise.click(
            lambda: random.randrange(2**31), None, seed, api_visibility="private", show_progress="hidden"
        )
        gr.HTML("<hr><h2>From images to codes</h2>")
        if answers.encoder is None:
            gr.HTML(_without_data(answers.missing), elem_id="missing")
        else:
            _reading_part(gr, answers, seed, reported, shared)
            page.load(None, js=_TAKE_THE_BRUSH)
    return page


def _reading_part(
    gr: Any, answers: Answers, seed: Any, reported: Callable[..., Any], shared: dict[str, Any]
) -> None:
    """The inputs for pictures, and what Q reads from them."""
    codes = answers.codes
    categorical = [code for code in codes if code.is_categorical]
    others = [code for code in codes if not code.is_categorical]

    def told(image: Tensor, seed: int | None) -> list[Any]:
        reading = answers.read(image)
        shares = [
            dict(zip(answers.names[code.name], reading.probabilities[code.name], strict=True))
            for code in categorical
        ]
        made = answers.made_of(reading, _checked(seed))
        return [as_picture(image), made, *shares, _table(others, reading)]

    first = told(answers.examples[0], PICTURE_SEED)
    with gr.Row():
        with gr.Column(min_width=320), gr.Tabs():
            with gr.Tab("Draw"):
                colours = ["#000000", "#ffffff", "#d62828", "#2a9d3a", "#1d5fd1", "#f2b705"]
                brush = gr.Brush(
                    _BRUSH,
                    colors=colours[:1] if answers.run.channels == 1 else colours,
                    color_mode="fixed",
                )
                sketch = gr.Sketchpad(
                    label="Draw with the mouse or a finger",
                    type="pil",
                    format="png",
                    canvas_size=(_CANVAS, _CANVAS),
                    fixed_canvas=True,
                    height=_CANVAS + 100,
                    brush=brush,
                    layers=False,
                    transforms=(),
                    buttons=[],
                    elem_id="sketch",
                )
                invert_sketch = gr.Checkbox(
                    answers.on_dark, label="Invert: dark on light to light on dark", elem_id="invert-sketch"
                )
            with gr.Tab("Picture file"):
                file = gr.File(label="A picture", file_types=["image"], type="binary", elem_id="file")
                invert_file = gr.Checkbox(
                    False, label="Invert: dark on light to light on dark", elem_id="invert-file"
                )
            with gr.Tab("Real images"):
                examples = gr.Gallery(
                    [as_picture(image) for image in answers.examples],
                    label="Choose one",
                    format="png",
                    columns=4,
                    height=_CANVAS,
                    allow_preview=False,
                    buttons=[],
                    interactive=False,
                    elem_id="examples",
                    elem_classes="pixels",
                )
        with gr.Column(min_width=320):
            with gr.Row():
                seen = _picture(gr, "As the network sees it", "seen", height=240, value=first[0])
                remade = _picture(gr, "Generated with what Q reads", "remade", height=240, value=first[1])
            labels = [
                gr.Label(
                    shares,
                    label=f"{code.name}: probability of each category",
                    num_top_classes=min(code.size, _SHOWN_PROBABILITIES),
                    show_heading=False,
                    elem_id=f"read-{code.name}",
                )
                for code, shares in zip(categorical, first[2:-1], strict=True)
            ]
            table = gr.Markdown(first[-1], elem_id="read-others")
    outputs = [seen, remade, *labels, table]

    def nothing() -> list[Any]:
        """What is shown stays."""
        return [gr.skip() for _ in outputs]

    @reported
    def read_drawing(drawing: dict[str, Any] | None, invert: bool, seed: int | None) -> list[Any]:
        drawn = None if drawing is None else drawing["composite"]
        if drawn is None or not drawn.convert("RGBA").getchannel("A").getbbox():
            return nothing()
        data = io.BytesIO()
        drawn.save(data, format="png")
        return told(answers.seen(data.getvalue(), invert=invert, background="white"), seed)

    @reported
    def read_picture(data: bytes | None, invert: bool, seed: int | None) -> list[Any]:
        return nothing() if data is None else told(answers.seen(data, invert=invert), seed)

    def read_example(seed: int | None, chosen: Any) -> list[Any]:
        return told(answers.examples[chosen.index], seed)

    # Gradio tells by the annotation, which is text here, what to pass.
    read_example.__annotations__["chosen"] = gr.SelectData
    always_last = {"trigger_mode": "always_last", **shared}
    gr.on(
        [sketch.change, invert_sketch.change],
        read_drawing,
        [sketch, invert_sketch, seed],
        outputs,
        api_name="read_drawing",
        **always_last,
    )
    gr.on(
        [file.change, invert_file.change],
        read_picture,
        [file, invert_file, seed],
        outputs,
        api_name="read_picture",
        **always_last,
    )
    examples.select(read_example, [seed], outputs, api_visibility="private", **always_last)


def _picture(gr: Any, label: str, name: str, *, height: int, value: Image.Image) -> Any:
    return gr.Image(
        value,
        label=label,
        alt_text=label,
        format="png",  # lossless
        type="pil",
        height=height,
        interactive=False,
        buttons=["download"],
        elem_id=name,
        elem_classes=["pixels", "picture"],
    )


def _control(gr: Any, code: Code, names: list[str]) -> Any:
    title, name = f"{code.name}, {code.kind}", f"code-{code.name}"
    if code.is_categorical and code.size > _MOST_CHOICES:
        label = f"{title}: 0 to {code.size - 1}"
        return gr.Number(0, label=label, precision=0, minimum=0, maximum=code.size - 1, elem_id=name)
    if code.is_categorical:
        kind = gr.Radio if code.size <= _MOST_BUTTONS else gr.Dropdown
        choices = [(text, i) for i, text in enumerate(names)]
        return kind(choices, value=0, label=title, elem_id=name)
    if code.kind == "bernoulli":
        return gr.Checkbox(False, label=title, elem_id=name)
    return gr.Slider(-REACH, REACH, value=0, step=0.05, label=title, elem_id=name)


def _in_reach(code: Code, value: Any) -> int | float:
    """A value that the page's control could have."""
    number = code.value(value)
    if code.is_ordered and abs(number) > REACH:
        raise UserError(f"{code.name} is {number:g}; the page takes {-REACH} to {REACH}")
    return number


def _checked(seed: Any) -> int:
    if seed is None:
        raise UserError("the seed of the noise is empty; give a whole number")
    if not isinstance(seed, (int, float)) or seed != seed // 1:
        raise UserError(f"the seed of the noise is {seed!r}; give a whole number")
    return int(seed)


def _heading(answers: Answers) -> str:
    run = answers.run
    rest = len(run.spec.codes) - len(answers.codes)
    more = f" The other {rest:,} codes are drawn with the noise." if rest > 0 else ""
    form = f"{run.image_size} x {run.image_size} {'grey' if run.channels == 1 else 'colour'}"
    return (
        f"<h1>{html.escape(run.folder.resolve().name)}</h1>"
        f"<p>InfoGAN after {run.updates:,} updates, {form} images, latents "
        f"<code>{html.escape(str(run.spec))}</code>.{more}</p>"
    )


def _without_data(why: str) -> str:
    return (
        "<p>Q cannot read pictures here. It needs the images that the run was trained on, for the statistics "
        f"of batch normalisation, and they are not at hand: {html.escape(why)}</p>"
        "<p>Start the page again with <code>--data NAME|PATH</code>, or with <code>--data-dir DIR</code> for "
        "a published set.</p>"
    )


def _table(codes: list[Code], reading: Reading) -> str:
    """What Q reads of the codes that are not categorical, as a table in Markdown."""
    if not codes:
        return ""
    lines = ["| code | Q reads |", "| :-- | :-- |"]
    for code in codes:
        if code.is_ordered:
            text = f"{reading.means[code.name]:+.2f} ± {reading.sigmas[code.name]:.2f}"
        else:
            text = f"1 with probability {reading.probabilities[code.name][0]:.3f}"
        lines.append(f"| {code.name}, {code.kind} | {text} |")
    return "\n".join(lines)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections; port 0 is a free one.

    Raises:
        UserError: the port is in use, or the host is not this machine's.
    """
    try:
        where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(where[4][:2], family=where[0])
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror}; give an address of this machine") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"--host {host}: is not an address of this machine") from None
        reason = "is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(f"--port {port}: {reason}; give another one, or 0 for one that is free") from None


def url_of(host: str, at: socket.socket) -> str:
    """The page's address; for a host that stands for all addresses, the one on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{at.getsockname()[1]}/"


def serve(gr: Any, page: Any, at: socket.socket, url: str, host: str) -> None:
    """Serve the page until a signal such as that of Ctrl-C ends it; print its address on stdout first.

    Meanwhile the process opens no connection to another machine, whatever it is asked for.

    Args:
        host: that was asked for, by whose name requests may come too.
    """
    # Before a launch, which mounting is none of, Gradio copies any file that a request names into its cache.
    page.has_launched = True
    fastapi, uvicorn = (extra("demo", module, _NEEDED_BY) for module in ("fastapi", "uvicorn"))
    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.queue(max_size=64, default_concurrency_limit=1),
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        # Fonts that the machine has: others would be fetched.
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=_CSS,
    )
    # Connections of open pages never end, so that ending is not graceful, which is not worth a line.
    config = uvicorn.Config(
        _KnownHosts(app, host), log_level="critical", loop="asyncio", timeout_graceful_shutdown=_GRACE
    )
    server = uvicorn.Server(config)

    def end(_: int) -> None:
        server.should_exit = True

    with stop_signals(end), _without_connections(), _fewer_pixels():
        print(url, flush=True)
        server.run(sockets=[at])


class _KnownHosts:
    """Answers requests by an address, or by a name of this machine, alone: a page of a stranger whose name
    was made to lead to this machine could otherwise read what this one serves (DNS rebinding).

    Args:
        app: of ASGI, to which requests go.
        host: a name that is known, too.
    """

    def __init__(self, app: Any, host: str) -> None:
        self.app = app
        own = platform.node().lower()  # its full name would have to be looked up
        self.known = {"localhost", host.lower(), own, f"{own}.local"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self._is_known(dict(scope["headers"]).get(b"host", b"")):
            body = b"This machine is not known by that name: use its address, or the name it calls itself.\n"
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self.app(scope, receive, send)

    def _is_known(self, header: bytes) -> bool:
        name = header.decode("latin-1").lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.rpartition(":")[0] or name
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.known
        return True


@contextlib.contextmanager
def _fewer_pixels() -> Iterator[None]:
    """Gradio itself opens drawings, with Pillow's limit, of which the double is refused."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def _without_connections() -> Iterator[None]:
    """Refuse connections and look-ups of names but those of this machine: Gradio would, for example, fetch a
    picture by the URL that a request names."""
    _guard.add()
    _guard.on = True
    try:
        yield
    finally:
        _guard.on = False


class _Guard:
    """An audit hook of the interpreter, which cannot be removed, but be switched."""

    def __init__(self) -> None:
        self.on = self.added = False

    def add(self) -> None:
        if not self.added:
            sys.addaudithook(self)
            self.added = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            return
        host = arguments[0]
        if event != "socket.getaddrinfo":  # else the place of a socket: a pair, or a path on this machine
            host = arguments[1][0] if isinstance(arguments[1], tuple) else None
        host = host.decode() if isinstance(host, bytes) else host
        if isinstance(host, str) and not is_loopback(host):
            raise PermissionError(f"the demo page opens no connection to {host}")


_guard = _Guard()
