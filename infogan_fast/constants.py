"""Constants that several layers share. Imports no torch."""

#: The smallest side of an image in pixels: the networks halve it at least twice.
MIN_SIZE = 16

#: What --device takes.
DEVICES = ("auto", "cpu", "cuda")

#: Seed of the pictures' latents: the same for every run, so that the pictures of runs can be compared.
PICTURE_SEED = 1

#: Exit status of an interrupted command: 128 + SIGINT, as shells report it.
INTERRUPTED = 130
