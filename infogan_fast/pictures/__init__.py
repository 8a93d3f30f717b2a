"""Grids of images and traversals of codes."""
