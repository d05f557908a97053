"""The shape of a cell's power: its peak, when it is steady, how fast it settles, and its mean batch. Pure.

Looked at once, in the readings as they came (`look`); the run's calibration is applied to what was kept (`Look.shape`),
so that no codes are needed twice and the live sweep and a replay say the same. Of a run that no single record holds
each capture is looked at (`look_at`) and what was kept of all is put together (`look_of`).

Peak and crest are those of samples. In high resolution each is the mean over its sampling period, and the clamp ends
at 100 kHz: what is shorter is averaged, and a slower sampling shows a lower peak. The noise of some 10^5 samples adds
about four of its standard deviations.
"""

from experiments.shape.captures import PartLook, look_at
from experiments.shape.folding import LEVELS, Fold, Profile, fold_rows
from experiments.shape.looking import Look, look
from experiments.shape.rows import RunShape, Shape, of_row
from experiments.shape.runs import Captured, RunLook, look_of
from experiments.shape.settling import Settling, settling
from experiments.shape.steady import steady_from

__all__ = [
    "LEVELS",
    "Captured",
    "Fold",
    "Look",
    "PartLook",
    "Profile",
    "RunLook",
    "RunShape",
    "Settling",
    "Shape",
    "fold_rows",
    "look",
    "look_at",
    "look_of",
    "of_row",
    "settling",
    "steady_from",
]
