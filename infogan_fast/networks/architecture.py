"""Networks as tables of layers, which ``--network`` takes by name or as a text. Imports no torch.

A table has three rows: the layers of the discriminator up to its output, those of Q's head up to its output,
and the generator's::

    D: conv 64 s2, conv 128 s2 bn, fc 1024 bn
    Q: fc 128 bn
    G: fc 1024 bn, fc 7x7x128 bn, up 64 s2 bn, up 1 s2 sigmoid

``conv K``: a 4x4 convolution with K channels, ``up K``: a 4x4 transposed convolution; ``s2`` halves or
doubles the side, otherwise it stays; ``s2+1`` adds a row and a column to a doubled side. ``fc N``: a fully
connected layer; ``fc SxSxC`` lays its features out as C maps of S x S. ``bn``: batch normalisation, instead
of a bias. ``sn``, in D and Q: spectral normalisation of the weights; where a row's last layer has it, so has
its output. Each layer ends in a leaky ReLU, in the generator in a ReLU; the last one makes images of 1
channel (grey) or 3 (colour) through ``sigmoid`` (in [0, 1]), or ``tanh``: then the networks see images in
[-1, 1].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from infogan_fast.constants import MIN_SIZE
from infogan_fast.errors import UserError

AUTO = "auto"

_SVHN = """
D: conv 64 s2, conv 128 s2 bn, conv 256 s2 bn
Q: fc 128 bn
G: fc 2x2x448 bn, up 256 s2 bn, up 128 s2, up 64 s2, up 3 s2 tanh
"""

#: Chen et al. 2016, arXiv 1606.03657, tables 1 to 4 and 6.
NETWORKS = {
    # Table 1 gives the last upconvolution neither a stride nor an activation; 7 -> 14 -> 28 needs the stride.
    "mnist": """
D: conv 64 s2, conv 128 s2 bn, fc 1024 bn
Q: fc 128 bn
G: fc 1024 bn, fc 7x7x128 bn, up 64 s2 bn, up 1 s2 sigmoid
""",
    "svhn": _SVHN,
    "celeba": _SVHN,
    # Table 4 gives the upconvolutions of Faces no stride on the last one either; 8 -> 16 -> 32.
    "faces": """
D: conv 64 s2, conv 128 s2 bn, fc 1024 bn
Q: fc 128 bn
G: fc 1024 bn, fc 8x8x128 bn, up 64 s2 bn, up 1 s2 sigmoid
""",
    # 8 x 8 maps that two layers without a stride keep and three with one would make 64 x 64 of.
    "chairs": """
D: conv 64 s2, conv 128 s2 bn, conv 256 s2 bn, conv 256 bn, conv 256 bn, fc 1024 bn
Q: fc 128 bn
G: fc 1024 bn, fc 8x8x256 bn, up 256 bn, up 256 bn, up 128 s2 bn, up 64 s2 bn, up 1 s2 sigmoid
""",
}

_LAYER = re.compile(
    r"(?P<kind>conv|up) (?P<channels>\d{1,5})(?: (?P<stride>s2(?P<odd>\+1)?))?(?: (?P<norm>bn|sn))?"
    r"(?: (?P<output>sigmoid|tanh))?"
    r"|fc (?:(?P<rows>\d{1,4})x(?P<columns>\d{1,4})x(?P<maps>\d{1,5})|(?P<features>\d{1,6}))"
    r"(?: (?P<fc_norm>bn|sn))?"
)
_GRAMMAR = (
    "expected rows such as D: conv 64 s2, conv 128 s2 bn, fc 1024 bn; Q: fc 128 bn; "
    "G: fc 1024 bn, fc 7x7x128 bn, up 64 s2 bn, up 1 s2 sigmoid"
)


@dataclass(frozen=True)
class Layer:
    """A row of the table.

    kind: ``"conv"``, ``"up"`` or ``"fc"``.
    channels: of its feature maps; of ``fc N``, N.
    stride: 1 or 2.
    odd: 1 where a row and a column are added to a doubled side.
    norm: ``"bn"`` where batch normalisation follows, ``"sn"`` where the weights are normalised; else empty.
    side: of the maps that ``fc SxSxC`` makes; else 0.
    output: ``"sigmoid"`` or ``"tanh"`` for the layer that makes images; else empty.
    """

    kind: str
    channels: int
    stride: int = 1
    odd: int = 0
    norm: str = ""
    side: int = 0
    output: str = ""

    def __str__(self) -> str:
        size = f"{self.side}x{self.side}x{self.channels}" if self.side else str(self.channels)
        stride = "" if self.stride == 1 else "s2+1" if self.odd else "s2"
        return " ".join(filter(None, (self.kind, size, stride, self.norm, self.output)))


@dataclass(frozen=True)
class Architecture:
    """The layers of the three networks; see the module for what they mean.

    Raises:
        UserError: they do not fit together.
    """

    discriminator: tuple[Layer, ...]
    q: tuple[Layer, ...]
    generator: tuple[Layer, ...]

    def __post_init__(self) -> None:
        d, q, g = self.discriminator, self.q, self.generator
        self._check_order("D", d, ("conv", "fc"))
        self._check_order("Q", q, ("fc",))
        self._check_order("G", g, ("fc", "up"))
        if any(layer.side for layer in (*d, *q)):
            raise UserError("--network: fc SxSxC belongs to G; give D and Q fc N")
        if any(layer.norm == "sn" for layer in g):
            raise UserError("--network: sn belongs to D and Q; give G bn")
        if not d or d[0].kind != "conv" or d[0].stride != 2 or d[0].norm == "bn" or d[0].channels % 8:
            raise UserError(
                "--network: D begins with conv K s2, without bn, K a multiple of 8, which reads the images"
            )
        dense = [layer for layer in g if layer.kind == "fc"]
        if not dense or [bool(layer.side) for layer in dense] != [False] * (len(dense) - 1) + [True]:
            raise UserError("--network: the last fc of G is fc SxSxC, whose maps the first up reads")
        last = g[-1]
        if not last.output or last.stride != 2 or last.norm or last.channels not in (1, 3):
            raise UserError(
                "--network: G ends with up 1 s2 sigmoid (grey) or up 3 s2 sigmoid (colour), or with tanh"
            )
        if g[-2].channels % 8:
            raise UserError(
                f"--network: G has {g[-2]} before its last layer; expected a multiple of 8 channels"
            )
        if any(layer.output for layer in (*d, *q, *g[:-1])):
            raise UserError("--network: sigmoid and tanh belong to the last layer of G")
        if self.image_size < MIN_SIZE:
            raise UserError(
                f"--network: G makes images of {self.image_size} pixels a side; expected at least {MIN_SIZE}"
            )
        if self.feature_maps(d, self.image_size)[-1] < 1:
            raise UserError(
                f"--network: D halves images of {self.image_size} pixels until nothing is left; leave some "
                "s2 out"
            )

    @staticmethod
    def _check_order(row: str, layers: Sequence[Layer], kinds: tuple[str, ...]) -> None:
        found = [layer.kind for layer in layers]
        if not set(found) <= set(kinds) or found != sorted(found, key=kinds.index):
            raise UserError(
                f"--network: {row} has {', '.join(map(str, layers))}; expected {' then '.join(kinds)}"
            )
        for layer in layers:
            if layer.channels == 0:
                raise UserError(f"--network: {row} has {layer}; expected at least 1")
            if layer.odd and layer.kind != "up":
                raise UserError(f"--network: {row} has {layer}; only up takes s2+1")

    @staticmethod
    def feature_maps(layers: Sequence[Layer], side: int) -> list[int]:
        """Sides of the feature maps from the first layer's input on, such as [28, 14, 7]."""
        result = [side]
        for layer in layers:
            if layer.kind == "conv":
                result.append(result[-1] // layer.stride)
            elif layer.kind == "up":
                result.append(result[-1] * layer.stride + layer.odd)
        return result

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        base = next(layer for layer in self.generator if layer.side)
        return self.feature_maps(self.generator, base.side)[-1]

    @property
    def channels(self) -> int:
        """Of the images: 1 (grey) or 3 (colour)."""
        return self.generator[-1].channels

    @property
    def signed(self) -> bool:
        """Whether the networks see images in [-1, 1], instead of [0, 1]."""
        return self.generator[-1].output == "tanh"

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read a table; its rows are apart by line breaks or semicolons.

        Raises:
            UserError: it cannot be read, or its layers do not fit together.
        """
        rows: dict[str, tuple[Layer, ...]] = {}
        for row in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
            name, separator, layers = row.partition(":")
            if not separator or name not in ("D", "Q", "G") or name in rows:
                raise UserError(f"--network: cannot read {row[:80]!r}; {_GRAMMAR}")
            texts = [" ".join(part.split()) for part in layers.split(",")]
            rows[name] = tuple(_layer(part) for part in texts if part or len(texts) > 1)
        if missing := [name for name in ("D", "Q", "G") if name not in rows]:
            raise UserError(f"--network: has no row {missing[0]}; {_GRAMMAR}")
        return cls(rows["D"], rows["Q"], rows["G"])

    @classmethod
    def of(cls, network: str) -> Architecture:
        """The layers of ``--network``, which is not ``auto``."""
        return cls.parse(NETWORKS.get(network, network))

    def __str__(self) -> str:
        rows = zip("DQG", (self.discriminator, self.q, self.generator), strict=True)
        return "; ".join(f"{name}: {', '.join(map(str, layers))}" for name, layers in rows)


def _layer(text: str) -> Layer:
    found = _LAYER.fullmatch(text)
    if not found or (found["rows"] and found["rows"] != found["columns"]):
        raise UserError(f"--network: cannot read {text[:80]!r}; {_GRAMMAR}")
    if found["kind"] is None:
        side, channels = int(found["rows"] or 0), int(found["maps"] or found["features"])
        if found["rows"] and not side:
            raise UserError(f"--network: has {text}; expected maps of at least 1 x 1")
        return Layer("fc", channels, norm=found["fc_norm"] or "", side=side)
    return Layer(
        found["kind"],
        int(found["channels"]),
        2 if found["stride"] else 1,
        1 if found["odd"] else 0,
        found["norm"] or "",
        output=found["output"] or "",
    )


_FEATURES, _Q_FEATURES = 1024, 128
_FIRST_CHANNELS, _MOST_CHANNELS = 64, 512
_SMALL_SIDE = 8


def _following_size(image_size: int, channels: int) -> Architecture:
    """The paper's MNIST network for square images of any size.

    The discriminator halves the side (rounding down) until it is at most 8, at least twice: 28 -> 14 -> 7, 64
    -> 32 -> 16 -> 8, 45 -> 22 -> 11 -> 5. The first convolution has 64 channels, each next one twice as many,
    up to 512. The generator takes the same sides in reverse. With 28 pixels this is the paper's MNIST
    network, with 32 its Faces network.
    """
    if image_size < MIN_SIZE:
        raise UserError(
            f"images are {image_size} pixels a side; the networks need at least {MIN_SIZE}: "
            f"enlarge them with --image-size"
        )
    if channels not in (1, 3):
        raise UserError(
            f"images have {channels} channels; the networks take 1 (grey) or 3 (colour): use --channels"
        )
    sides = [image_size]
    while len(sides) < 3 or sides[-1] > _SMALL_SIDE:
        sides.append(sides[-1] // 2)
    widths = [min(_FIRST_CHANNELS << i, _MOST_CHANNELS) for i in range(len(sides) - 1)]
    up = [Layer("up", width, 2, side % 2, norm="bn") for width, side in zip(widths, sides[1:], strict=False)]
    return Architecture(
        (
            *(Layer("conv", width, 2, norm="bn" if i else "") for i, width in enumerate(widths)),
            Layer("fc", _FEATURES, norm="bn"),
        ),
        (Layer("fc", _Q_FEATURES, norm="bn"),),
        (
            Layer("fc", _FEATURES, norm="bn"),
            Layer("fc", widths[-1], norm="bn", side=sides[-1]),
            *reversed(up[:-1]),
            Layer("up", channels, 2, image_size % 2, output="sigmoid"),
        ),
    )


def parse_network(text: str) -> str:
    """What ``--network`` takes: ``auto``, a name of :data:`NETWORKS`, or a table, returned in one line.

    Raises:
        UserError: it is none of these.
    """
    name = text.strip()
    if name == AUTO or name in NETWORKS:
        return name
    if ":" not in name:
        raise UserError(
            f"--network is {text!r}; expected {AUTO}, {', '.join(NETWORKS)}, or a table of layers: {_GRAMMAR}"
        )
    return str(Architecture.parse(name))


def architecture(network: str, image_size: int, channels: int) -> Architecture:
    """The layers of ``--network`` for images of this size.

    Raises:
        UserError: the network is for other images, or there is none for these.
    """
    if network == AUTO:
        return _following_size(image_size, channels)
    found = Architecture.of(network)
    if (found.image_size, found.channels) != (image_size, channels):
        colours = {1: "grey", 3: "colour"}
        own = f"{found.image_size} x {found.image_size} {colours[found.channels]}"
        given = f"{image_size} x {image_size} {colours.get(channels, f'with {channels} channels')}"
        raise UserError(
            f"--network {network if network in NETWORKS else 'of this table'} is for {own} images, and these "
            f"are {given}; add --image-size {found.image_size} --channels {found.channels}, or take "
            f"--network {AUTO}"
        )
    return found
