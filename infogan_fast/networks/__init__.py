"""The layers and networks of InfoGAN."""
