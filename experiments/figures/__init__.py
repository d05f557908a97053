"""Figures of a run: the paper's ten, six more, and the two beside a table; `python -m experiments.figures`.

matplotlib is imported only when something is drawn.
"""

from experiments.figures.style import colour_of, png
from experiments.figures.summary import energy_vs_batch, power_vs_batch

__all__ = ["colour_of", "energy_vs_batch", "png", "power_vs_batch"]
