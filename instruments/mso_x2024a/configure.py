"""Setting the oscilloscope: every setting is sent, read back with the error queue, and given as it really is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instruments import scpi
from instruments.dialogue import Dialogue

from .capabilities import Capabilities
from .inputs import POD_LINES, pods_of
from .settings import AcquisitionSettings, ChannelSettings, DigitalSettings, TimebaseSettings, join
from .trigger import EdgeTrigger


class Configurator:
    """Sends settings over a dialogue; raises SettingError where one reads back otherwise, ScpiError as queued."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    def channel(self, number: int, settings: ChannelSettings) -> ChannelSettings:
        """Set one analogue channel."""
        commands, d, name = settings.commands(number), self._dialogue, f"CHAN{number}"
        skew, label = ChannelSettings.extra_queries(number)
        optional = [q for q, value in ((skew, settings.skew_s), (label, settings.label)) if value is not None]
        answers = d.set(commands, *ChannelSettings.queries(number), *optional)
        display, units, probe, coupling, limit, invert, full_scale, offset, *more = answers
        d.confirm_bool(f"{name} display", settings.display, display, commands)
        d.confirm_keyword(f"{name} units", "AMPere" if settings.units == "A" else "VOLT", units, commands)
        d.confirm_keyword(f"{name} coupling", settings.coupling, coupling, commands)
        d.confirm_bool(f"{name} bandwidth limit", settings.bandwidth_limit, limit, commands)
        d.confirm_bool(f"{name} invert", settings.invert, invert, commands)
        ratio, scale = settings.probe_ratio, settings.full_scale
        hint = "the scope has 1-2-5 steps of 1 mV/div to 5 V/div, 8 divisions, times the probe ratio"
        found = replace(
            settings,
            probe_ratio=d.confirm(f"{name} probe ratio", ratio, probe, 1e-3 * ratio, commands),
            full_scale=d.confirm(f"{name} full_scale", scale, full_scale, 0.01 * scale, commands, hint),
            offset=d.confirm(f"{name} offset", settings.offset, offset, 0.01 * scale, commands),
        )
        if settings.skew_s is not None:
            skew_s = d.confirm(f"{name} skew_s", settings.skew_s, more.pop(0), 1e-11, commands)
            found = replace(found, skew_s=skew_s)
        if settings.label is not None:
            shown = d.read(more.pop(0), scpi.parse_string, commands)
            d.confirm_keyword(f"{name} label", settings.label.upper(), shown.upper(), commands)
        return found

    def channel_off(self, number: int) -> None:
        """Take an analogue channel off the display."""
        self._switch(f"CHAN{number} display", f":CHANnel{number}:DISPlay", False)

    def digital(self, settings: DigitalSettings) -> DigitalSettings:
        """Switch on these lines and their pods, all others off, with one threshold."""
        d, lines = self._dialogue, range(settings.available)
        pods = [pod for pod in pods_of(settings.available) if any(bit // POD_LINES == pod - 1 for bit in settings.bits)]
        commands = join(
            [
                *(f":POD{pod}:DISPlay {int(pod in pods)}" for pod in pods_of(settings.available)),
                *(f":DIGital{bit}:DISPlay {int(bit in settings.bits)}" for bit in lines),
                *(f":POD{pod}:THReshold {scpi.format_number(settings.threshold_v)}" for pod in pods),
            ]
        )
        queries = [f":DIGital{bit}:DISPlay?" for bit in lines]
        answers = d.set(commands, *queries, *(f":POD{pod}:THReshold?" for pod in pods))
        for bit, answer in zip(lines, answers, strict=False):
            d.confirm_bool(f"DIG{bit} display", bit in settings.bits, answer, commands)
        levels = answers[len(queries) :]
        got = [
            d.confirm(f"POD{pod} threshold_v", settings.threshold_v, level, 0.02, commands)
            for pod, level in zip(pods, levels, strict=True)
        ]
        return replace(settings, threshold_v=got[0])

    def digital_off(self, available: int) -> None:
        """Take the pods off the display."""
        for pod in pods_of(available):
            self._switch(f"POD{pod} display", f":POD{pod}:DISPlay", False)

    def timebase(self, settings: TimebaseSettings) -> TimebaseSettings:
        """Set the window and where the trigger stands in it."""
        d, range_s = self._dialogue, settings.range_s
        commands = join(
            [
                ":TIMebase:MODE MAIN",
                f":TIMebase:REFerence {settings.reference}",
                f":TIMebase:RANGe {scpi.format_number(range_s)}",
                f":TIMebase:POSition {scpi.format_number(settings.position_s)}",
            ]
        )
        mode, reference, span, position = d.set(
            commands, ":TIMebase:MODE?", ":TIMebase:REFerence?", ":TIMebase:RANGe?", ":TIMebase:POSition?"
        )
        d.confirm_keyword("time base mode", "MAIN", mode, commands)
        d.confirm_keyword("time reference", settings.reference, reference, commands)
        got_s = d.confirm("time range_s", range_s, span, 1e-3 * range_s, commands, "use a 1-2-5 step of s/div")
        at_s = d.confirm("time position_s", settings.position_s, position, 1e-3 * range_s, commands)
        return replace(settings, range_s=got_s, position_s=at_s)

    def acquisition(self, settings: AcquisitionSettings) -> AcquisitionSettings:
        """Set how samples are made; segmented memory is left."""
        count = settings.count
        commands = [":ACQuire:MODE RTIMe", f":ACQuire:TYPE {settings.type}"]
        queries = [":ACQuire:MODE?", ":ACQuire:TYPE?"]
        if count is not None:
            commands.append(f":ACQuire:COUNt {count}")
            queries.append(":ACQuire:COUNt?")
        message = join(commands)
        mode, kind, *more = self._dialogue.set(message, *queries)
        self._dialogue.confirm_keyword("acquisition mode", "RTIMe", mode, message)
        self._dialogue.confirm_keyword("acquisition type", settings.type, kind, message)
        if count is not None:
            self._dialogue.confirm("average count", count, more[0], 0, message)
        return settings

    def segments(self, count: int) -> None:
        """Divide the memory into so many segments (PG2000; option SGM)."""
        message = f":ACQuire:MODE SEGMented;:ACQuire:SEGMented:COUNt {count}"
        mode, got = self._dialogue.set(message, ":ACQuire:MODE?", ":ACQuire:SEGMented:COUNt?")
        self._dialogue.confirm_keyword("acquisition mode", "SEGMented", mode, message)
        self._dialogue.confirm("segments", count, got, 0, message, "the memory may hold fewer")

    def trigger(self, trigger: EdgeTrigger) -> EdgeTrigger:
        """Set an edge trigger; the sweep is set explicitly, since AUTO would trigger by itself."""
        d, commands = self._dialogue, trigger.commands()
        keywords, switches, numbers = trigger.keywords(), trigger.switches(), trigger.numbers()
        queries = [query for _, query, _ in (*keywords, *switches)] + [query for _, query, _, _ in numbers]
        answers = iter(d.set(commands, *queries))
        for name, _, keyword in keywords:
            d.confirm_keyword(name, keyword, next(answers), commands)
        for name, _, position in switches:
            d.confirm_bool(name, position, next(answers), commands)
        found = {name: d.confirm(name, asked, next(answers), within, commands) for name, _, asked, within in numbers}
        return replace(
            trigger,
            level_v=found.get("trigger level", trigger.level_v),
            holdoff_s=found.get("trigger holdoff_s", trigger.holdoff_s),
        )

    def read_all(self, has: Capabilities) -> dict[str, str]:
        """Read back what matters for a capture: query without ``?`` -> answer."""
        channels = range(1, has.analog_channels + 1)
        queries = [q for n in channels for q in (*ChannelSettings.queries(n), *ChannelSettings.extra_queries(n))]
        queries += [f":TIMebase:{name}?" for name in ("MODE", "REFerence", "RANGe", "POSition")]
        queries += [":ACQuire:MODE?", ":ACQuire:TYPE?", ":TRIGger:MODE?", ":TRIGger:SWEep?"]
        queries += [f":TRIGger:EDGE:{name}?" for name in ("SOURce", "SLOPe", "COUPling")] + [":TRIGger:HOLDoff?"]
        for pod in pods_of(has.digital_channels):
            queries += [f":POD{pod}:DISPlay?", f":POD{pod}:THReshold?"]
        return self.read([query[1:-1] for query in queries])

    def read(self, names: Sequence[str]) -> dict[str, str]:
        """Read some settings back: query without ``?`` -> answer."""
        found: dict[str, str] = {}
        for start in range(0, len(names), 16):  # short messages: input buffers are not endless
            part = names[start : start + 16]
            found.update(zip(part, self._dialogue.ask(*(f":{name}?" for name in part)), strict=True))
        return found

    def _switch(self, name: str, header: str, on: bool) -> None:
        command = f"{header} {int(on)}"
        (answer,) = self._dialogue.set(command, f"{header}?")
        self._dialogue.confirm_bool(name, on, answer, command)
