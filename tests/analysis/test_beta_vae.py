"""beta-VAE scores of hand-made encoders, which are known."""

from __future__ import annotations

from analysis.encoders import SAMPLERS, known

from infogan_fast.analysis.beta_vae import beta_vae_score


@known(
    {
        "perfect": (1, 1),
        "permuted": (1, 1),
        "with noise": (1, 1),
        "turned": (0.6, 0.75),
        "all turned": (0.4, 0.75),
        "random": (0.25, 0.42),
        "constant": (0.25, 0.42),
        "doubled": (1, 1),
        "single": (0.6, 0.75),
    }
)
def test_beta_vae_score(encoder: str, low: float, high: float) -> None:
    assert low <= beta_vae_score(SAMPLERS[encoder], 3, train=1000, test=500) <= high
