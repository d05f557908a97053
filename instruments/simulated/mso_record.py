"""The samples of a simulated acquisition: analogue errors, noise, steps, clipping, digital lines. Pure.

Only the points that are asked for are computed, once per acquisition, source and decimation; the noise
belongs to the sample, so that reading again, or with other points, gives the same codes.

Codes are left-justified in 16 bits: 256 (ADC 8 bit) steps of 256, or finer in HRES (up to 12 bit, PG2000
p.633); 0 is a hole, 0x0100 clipped low, 0xFF00 clipped high (2024 ed. p.737). Unconfirmed, settable in
`FrontEnd`: 199 of the 256 steps cover the eight divisions; HRES averages centred on the sample's time;
lines of POD1 that are not displayed read as constant rubbish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instruments.simulated.interfaces import Floats, Surroundings
from instruments.simulated.mso_acquisition import Options, Record
from instruments.simulated.mso_settings import VERTICAL_DIVISIONS, Channel

Codes = NDArray[np.uint16]
MID, CLIP_LOW, CLIP_HIGH = 32768, 0x0100, 0xFF00
LIMITED_S = 14e-9
"""Rise time of the bandwidth limit of 25 MHz."""
_NOISE_LENGTH = 1 << 19


@dataclass(frozen=True)
class FrontEnd:
    """Spread of the vertical errors, drawn per channel from the seed; all zero: an ideal oscilloscope."""

    gain_sd: float = 0.005
    offset_sd_div: float = 0.02
    noise_div: float = 0.02
    """Noise of one ADC sample; HRES averages it down."""
    screen_steps: float = 199.0
    """8-bit steps over the eight divisions."""
    hole_fraction: float = 0.0


@dataclass(frozen=True)
class Scale:
    """y = (code - 32768) * increment + origin, in the probe's units; the increment is a 32-bit float."""

    increment: float
    origin: float


class Synthesiser:
    """Computes and keeps the codes of the latest acquisition."""

    def __init__(self, world: Surroundings, front: FrontEnd, options: Options, seed: int) -> None:
        self._world, self._front, self._options, self._seed = world, front, options, seed
        rng = np.random.default_rng([seed, 0xADC])
        self.hole_fraction = front.hole_fraction
        self._gain = 1.0 + front.gain_sd * np.clip(rng.standard_normal(4), -3, 3)
        self._offset_div = front.offset_sd_div * np.clip(rng.standard_normal(4), -3, 3)
        self._rubbish = int(rng.integers(0, 256))
        self._noise: NDArray[np.float32] | None = None
        self._kept: dict[tuple[str, int, int], NDArray[np.uint16]] = {}
        self._kept_number = -1

    def scale(self, channel: Channel) -> Scale:
        """Scale of 16-bit codes of a channel."""
        increment = float(np.float32(channel.range / (self._front.screen_steps * 256)))
        return Scale(increment, float(np.float32(channel.offset_v * channel.probe)))

    def codes(self, record: Record, source: str, every: int, count: int) -> Codes:
        """Codes of sample 0, every, 2*every, ... of a source; PEAK: 2*count, minima and maxima in turn."""
        if record.number != self._kept_number:
            self._kept.clear()
            self._kept_number = record.number
        key = (source, every, count)
        if key not in self._kept:
            if record.blank:
                self._kept[key] = np.zeros(count, dtype=np.uint16)
            elif source.startswith("POD"):
                self._kept[key] = self._digital(record, source, every, count)
            else:
                self._kept[key] = self._analogue(record, source, every, count)
        return self._kept[key]

    def _times(self, record: Record, every: int, count: int) -> Floats:
        index = every * np.arange(count)  # the same instants, to the last bit, whatever is left out between
        return np.asarray(record.trigger_s + record.start_s + record.step_s * index, dtype=np.float64)

    def _digital(self, record: Record, source: str, every: int, count: int) -> Codes:
        """Lines of a pod; nothing is connected to those of POD2."""
        pod = record.settings.pod(source)
        times = self._times(record, every, count)
        seen = self._world.digital(times).astype(np.uint16) if source == "POD1" else np.zeros(count, dtype=np.uint16)
        if pod.threshold_v <= self._options.logic_low_v:
            seen[:] = 0xFF
        elif pod.threshold_v >= self._options.logic_high_v:
            seen[:] = 0
        shown = sum(1 << k for k, on in enumerate(pod.display) if on)
        return np.asarray((seen & shown) | (self._rubbish & ~shown & 0xFF), dtype=np.uint16)

    def _analogue(self, record: Record, source: str, every: int, count: int) -> Codes:
        channel, kind = record.settings.channels[source], record.settings.acquire.type
        t = self._times(record, every, count) - channel.skew_s
        if kind == "PEAK":
            span = record.step_s * every
            spots = [self._seen_v(record, source, t + span * k / 4, 1e-9, 1.0, every, k) for k in range(4)]
            pair = np.stack((np.min(spots, axis=0), np.max(spots, axis=0)), axis=1).ravel()
            return self._quantise(pair, channel, 8)
        if kind == "HRES":
            aperture_s = record.step_s
            averaged = max(1.0, aperture_s * self._options.adc_hz)
            volts = self._seen_v(record, source, t - aperture_s / 2, aperture_s, averaged, every, 0)
            return self._quantise(volts, channel, min(12, 8 + int(0.5 * math.log2(averaged))))
        aperture_s = max(LIMITED_S, self._options.aperture_s) if channel.bwlimit else self._options.aperture_s
        averaged = float(record.settings.acquire.count) if kind == "AVER" else 1.0
        shifts = [trigger_s - record.trigger_s for trigger_s in _spread(record.triggers, self._options.most_averaged)]
        seen = [self._seen_v(record, source, t + s, aperture_s, averaged, every, 0) for s in shifts or [0.0]]
        volts = np.asarray(np.mean(seen, axis=0)) if len(seen) > 1 else seen[0]
        return self._quantise(volts, channel, 12 if kind == "AVER" and averaged > 1 else 8)

    def _seen_v(
        self,
        record: Record,
        source: str,
        t: Floats,
        aperture_s: float,
        averaged: float,
        every: int,
        part: int,
    ) -> Floats:
        """Volts at the BNC as the converter sees them."""
        number = int(source[4:])
        channel = record.settings.channels[source]
        true_v = self._world.analog_v(number, t, aperture_s)
        if channel.coupling == "AC":
            true_v = true_v - true_v.mean()
        if channel.invert:
            true_v = -true_v
        seen = true_v * self._gain[number - 1]
        seen += self._offset_div[number - 1] * channel.div_v
        rms_v = self._front.noise_div * channel.div_v / math.sqrt(averaged)
        if rms_v > 0:
            seen += self._noise_of(record, number * 8 + part, every, t.size) * rms_v
        return np.asarray(seen)

    def _noise_of(self, record: Record, stream: int, every: int, count: int) -> NDArray[np.float32]:
        """Unit noise of each sample, out of one long drawn table: cheap, and the same for any decimation."""
        if self._noise is None:
            rng = np.random.default_rng([self._seed, 0x4015E])
            self._noise = rng.standard_normal(_NOISE_LENGTH, dtype=np.float32)
        instant_ns = abs(int(record.trigger_s * 1e9))
        begin = int(np.random.default_rng([self._seed, instant_ns, stream]).integers(_NOISE_LENGTH))
        index = (begin + every * np.arange(count)) & (_NOISE_LENGTH - 1)
        return np.asarray(self._noise[index])

    def _quantise(self, volts: Floats, channel: Channel, bits: int) -> Codes:
        scale = self.scale(channel)
        step = 1 << (16 - bits)
        codes = np.rint((volts * channel.probe - scale.origin) / (scale.increment * step)) * step + MID
        out = np.clip(codes, CLIP_LOW, CLIP_HIGH).astype(np.uint16)
        if self.hole_fraction > 0:
            holes = np.random.default_rng([self._seed, 0x401E, out.size]).random(out.size)
            out[holes < self.hole_fraction] = 0
        return np.asarray(out)

    def screen_span(self, channel: Channel) -> tuple[float, float]:
        """Lower and upper edge of the screen in the probe's units."""
        middle = channel.offset_v * channel.probe
        half = channel.range / 2
        assert VERTICAL_DIVISIONS == 8
        return middle - half, middle + half


def _spread(times: tuple[float, ...], most: int) -> tuple[float, ...]:
    """At most so many of them, evenly spread."""
    return times[:: -(-len(times) // most)] if times else ()
