"""A simulated MSO-X 2024A oscilloscope, written from its Programmer's Guide and public drivers. Pure.

Acquisitions happen in the world's time; samples are computed when they are read. Imports no driver.

Unconfirmed behaviour is said, with its switch, in `mso_acquisition.Options`, `mso_record.FrontEnd`,
`mso_waveform.TransferQuirks` and `mso_panel`. Only edge triggers are simulated: in other trigger modes no
trigger comes but a forced or automatic one. AVERage is one acquisition with the noise of COUNt. SINGle is
no pending operation for *OPC (unconfirmed); DIGitize blocks the whole interface until it is done.
"""

from __future__ import annotations

from instruments.simulated.interfaces import Surroundings
from instruments.simulated.mso_acquisition import Acquisition, Mode, Options, Timing, timing_of
from instruments.simulated.mso_channels import ChannelCommands
from instruments.simulated.mso_display import DisplayCommands
from instruments.simulated.mso_panel import PanelCommands
from instruments.simulated.mso_record import FrontEnd, Synthesiser
from instruments.simulated.mso_settings import Settings, from_learn_string, to_learn_string
from instruments.simulated.mso_waveform import TransferQuirks, WaveformCommands
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_syntax import encode_block
from instruments.simulated.scpi_tree import Call, Job

IDENTITY = "AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830"
RUN_BIT, WAIT_TRIGGER_BIT = 8, 32
POLL_S = 0.002


class SimulatedMsoX2024A(ScpiMachine):
    """The oscilloscope as its interfaces see it."""

    def __init__(
        self,
        world: Surroundings,
        *,
        seed: int = 0,
        identity: str = IDENTITY,
        memory_points: int = 1_000_000,
        acquisition: Options | None = None,
        front: FrontEnd | None = None,
        transfer: TransferQuirks | None = None,
        installed: str = "MSO,0,0,0,0,0,0,0,0,0",
        error_depth: int = 30,
        drops_unread: bool = True,
    ) -> None:
        super().__init__(identity=identity, error_depth=error_depth, drops_unread=drops_unread, options=installed)
        options = acquisition or Options(memory_points=memory_points)
        self.world, self.settings = world, Settings()
        self.acquisition = Acquisition(world, options, seed)
        self.synthesiser = Synthesiser(world, front or FrontEnd(), options, seed)
        self._stored: dict[int, Settings] = {}
        self._oper_event = self._oper_enable = self._oper_last = 0
        self._locked = False
        self._add_root()
        self._add_system()
        ChannelCommands(self)
        PanelCommands(self)
        DisplayCommands(self)
        self.waveform = WaveformCommands(self, transfer or TransferQuirks())
        self._start("RUN")

    # --- time -----------------------------------------------------------------------------------

    def on_time(self) -> None:
        """Bring world and acquisition to now."""
        self.world.advance(self.now_s)
        self.acquisition.advance(self.now_s)
        self._watch()
        self.settle_opc()

    def _watch(self) -> None:
        """Latch rising condition bits in the event register."""
        now = self.condition()
        self._oper_event |= now & ~self._oper_last
        self._oper_last = now

    def condition(self) -> int:
        """Operation condition: bit 3 not stopped, bit 5 armed and waiting (PG3000 p.171)."""
        running = RUN_BIT if self.acquisition.mode != "STOP" else 0
        return running | (WAIT_TRIGGER_BIT if self.acquisition.phase == "WAIT" else 0)

    def timing(self) -> Timing:
        """Memory and rate as :ACQuire:POINts? and :SRATe? tell them."""
        record = self.acquisition.record
        if self.acquisition.mode == "STOP" and record is not None:
            return record.timing
        return timing_of(self.settings, self.acquisition.options, self.acquisition.mode == "RUN")

    # --- acquisition ----------------------------------------------------------------------------

    def touch(self) -> None:
        """A setting that shapes the samples has changed."""
        self.acquisition.settings_changed(self.settings, self.now_s)
        self._watch()

    def _start(self, mode: Mode) -> None:
        self.acquisition.start(mode, self.settings, self.now_s)
        self.acquisition.advance(self.now_s)
        self._watch()

    def _stop(self) -> None:
        self.acquisition.stop()
        self._watch()

    def force(self) -> None:
        """:TRIGger:FORCe and *TRG."""
        self.acquisition.force(self.now_s)
        self.on_time()

    def bus_trigger(self) -> Job | None:
        """*TRG forces a trigger."""
        self.force()
        return None

    def _digitize(self, call: Call) -> Job:
        """:DIGitize [source,...]: shows the listed sources and blocks until the acquisition is done."""
        wanted = []
        while call.more:
            wanted.append(call.choice(*(f"CHANnel{n}" for n in range(1, 5)), "POD1"))
        if wanted:
            for name, channel in self.settings.channels.items():
                channel.display = channel.display or name in wanted
            if "POD1" in wanted and not self.settings.digital.on:
                self.settings.digital.display = [True] * 8
        self._start("DIG")
        while self.acquisition.mode == "DIG":
            yield max(self.acquisition.next_s, self.now_s + POLL_S)
        return None

    def on_job_aborted(self) -> None:
        """Device clear stops a digitize (PG4000 p.1599)."""
        if self.acquisition.mode == "DIG":
            self._stop()

    # --- status ---------------------------------------------------------------------------------

    def reset(self) -> None:
        """*RST, and the state at power-on: running, with automatic sweep."""
        self.settings = Settings()
        self.acquisition.record = None
        self.acquisition.triggered = self.acquisition.armed = False
        self._start("RUN")

    def clear_status(self) -> None:
        """*CLS."""
        super().clear_status()
        self._oper_event = 0
        self.acquisition.triggered = self.acquisition.armed = False

    def summary_bits(self) -> int:
        """Bit 7: the operation register; bit 0: a trigger has come."""
        operation = 128 if self._oper_event & self._oper_enable else 0
        return operation | (1 if self.acquisition.triggered else 0)

    def _read_flag(self, name: str) -> str:
        """:TER? and :AER? are cleared by reading (2024 ed. p.170, 200)."""
        value = bool(getattr(self.acquisition, name))
        setattr(self.acquisition, name, False)
        return f"{value:+d}"

    def _read_oper(self) -> str:
        self._watch()
        value, self._oper_event = self._oper_event, 0
        return f"{value:+d}"

    def _set_oper_enable(self, call: Call) -> None:
        self._oper_enable = call.integer(low=0, high=65535)

    # --- commands -------------------------------------------------------------------------------

    def _add_root(self) -> None:
        none, add = (0, 0), self.add
        add(":RUN", lambda c: self._start("RUN"), set_args=none)
        add(":STOP", lambda c: self._stop(), set_args=none)
        add(":SINGle", lambda c: self._start("SING"), set_args=none)
        add(":DIGitize", self._digitize, set_args=(0, 5))
        add(":TER", query=lambda c: self._read_flag("triggered"))
        add(":AER", query=lambda c: self._read_flag("armed"))
        add(":RSTate", query=lambda c: {"DIG": "SING"}.get(self.acquisition.mode, self.acquisition.mode))
        add(":OPERegister:CONDition", query=lambda c: f"{self.condition():+d}")
        add(":OPERegister[:EVENt]", query=lambda c: self._read_oper())
        add(":OPEE", self._set_oper_enable, lambda c: f"{self._oper_enable:+d}")
        add(":MTERegister[:EVENt]", query=lambda c: "+0")
        add(":OVLRegister", query=lambda c: "+0")
        add(":VIEW", lambda c: self._show(c, True))
        add(":BLANk", lambda c: self._show(c, False), set_args=(0, 1))
        add(":STATus", query=self._shown, query_args=(1, 1))
        add(":SERial", query=lambda c: self.identity.split(",")[2])

    def _source(self, call: Call) -> str:
        return call.choice(*(f"CHANnel{n}" for n in range(1, 5)), *(f"DIGital{n}" for n in range(8)), "POD1")

    def _show(self, call: Call, on: bool) -> None:
        names = [self._source(call)] if call.more else [*self.settings.channels, "POD1"]
        for name in names:
            if name.startswith("CHAN"):
                self.settings.channels[name].display = on
            elif name == "POD1":
                self.settings.digital.display = [on] * 8
            else:
                self.settings.digital.display[int(name[3:])] = on
        self.touch()

    def _shown(self, call: Call) -> str:
        name = self._source(call)
        if name.startswith("CHAN"):
            return f"{self.settings.channels[name].display:d}"
        digital = self.settings.digital
        return f"{digital.on if name == 'POD1' else digital.display[int(name[3:])]:d}"

    def _add_system(self) -> None:
        none, add = (0, 0), self.add
        add(":SYSTem:ERRor", query=lambda c: self.next_error())
        add(":SYSTem:SETup", self._restore, lambda c: encode_block(to_learn_string(self.settings)))
        add("*LRN", query=lambda c: b":SYST:SET " + encode_block(to_learn_string(self.settings)))
        add(
            ":SYSTem:DSP",
            lambda c: setattr(self.settings, "message", c.string()[:254]),
            lambda c: f'"{self.settings.message}"',
        )
        add(":SYSTem:DATE", lambda c: None, lambda c: "+2026,+1,+1", set_args=(3, 3))
        add(":SYSTem:TIME", lambda c: None, lambda c: "+0,+0,+0", set_args=(3, 3))
        add(":SYSTem:LOCK", lambda c: setattr(self, "_locked", c.boolean()), lambda c: f"{self._locked:d}")
        add(":SYSTem:PRESet", lambda c: self.reset(), set_args=none)
        add("*SAV|:SAVE:SETup[:STARt]", lambda c: self._stored.update({c.integer(low=0, high=9): self.settings.copy()}))
        add("*RCL|:RECall:SETup[:STARt]", self._recall)

    def _restore(self, call: Call) -> None:
        self.settings = from_learn_string(call.block())
        self.touch()

    def _recall(self, call: Call) -> None:
        place = call.integer(low=0, high=9)
        if place not in self._stored:
            raise Refused(-230)
        self.settings = self._stored[place].copy()
        self.touch()
