"""Limits and choices that several layers share. Imports no torch."""

#: The smallest side of an image in pixels: the networks halve it at least twice.
MIN_SIZE = 16

#: What --device takes.
DEVICES = ("auto", "cpu", "cuda")
