"""Figures of a run: the paper's ten, and six more, of which two stand beside a table; `python -m experiments.figures`.

matplotlib is imported only when something is drawn.
"""
