"""The paper's four findings put to one device's own data: `python -m experiments.findings RUN...`.

Canziani, Paszke and Culurciello (arXiv 1605.07678) found that power does not depend on batch size and architecture
(H1), that accuracy and time are in a hyperbolic relation (H2), that energy bounds accuracy and complexity (H3), and
that the number of operations predicts the time (H4). They give no test. docs/findings.md says what is tested here and
why.
"""
