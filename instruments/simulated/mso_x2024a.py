"""A simulated oscilloscope of the InfiniiVision 2000 X and 3000 X series, written from the Programmer's Guide. Pure.

Acquisitions happen in the world's time; samples are computed when they are read. Imports no driver. Inputs, lines,
bandwidth and rate follow the model in the identity (`mso_models`).

Unconfirmed behaviour is said, with its switch, in `mso_acquisition.Options`, `mso_record.FrontEnd`,
`mso_waveform.TransferQuirks` and `mso_settings.PanelQuirks`. DIGitize blocks the whole interface until it is done.

Not simulated, and answered with -113 as by an instrument without them: :BUS, :COMPliance, :DEMO, :DVM, :FFT, :FUNCtion,
:LISTer, :MTESt (but its event register), :POWer, :SBUS and its :SEARch, :WGEN, :WMEMory; files and USB storage
(:SAVE and :RECall but for setups in memory); trigger modes other than EDGE and GLITch can be chosen and never trigger.
What is kept and answered only, and changes nothing else, is in `mso_kept`.
"""

from __future__ import annotations

from instruments.simulated.interfaces import Surroundings
from instruments.simulated.mso_acquisition import Acquisition, Mode, Options, Timing, timing_of
from instruments.simulated.mso_channels import ChannelCommands
from instruments.simulated.mso_display import DisplayCommands
from instruments.simulated.mso_kept import add_kept
from instruments.simulated.mso_measure import MeasureCommands
from instruments.simulated.mso_models import Model
from instruments.simulated.mso_panel import PanelCommands
from instruments.simulated.mso_record import FrontEnd, Synthesiser
from instruments.simulated.mso_root import RootCommands
from instruments.simulated.mso_segments import SegmentCommands
from instruments.simulated.mso_settings import PanelQuirks, Settings
from instruments.simulated.mso_system import SystemCommands
from instruments.simulated.mso_traces import Traces
from instruments.simulated.mso_trigger_panel import TriggerCommands
from instruments.simulated.mso_waveform import TransferQuirks, WaveformCommands
from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_tree import Job

IDENTITY = "AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830"
INSTALLED = "0,0,0,0,MSO,0,0,0,0,0,0,0,0,0,0,0,0,0,0"
"""Answer of *OPT?: two zeros and the licences by place (MSO the fifth); the number of places is unconfirmed."""
RUN_BIT, WAIT_TRIGGER_BIT, MASK_BIT, OVERLOAD_BIT = 8, 32, 512, 2048


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
        panel: PanelQuirks | None = None,
        installed: str = INSTALLED,
        error_depth: int = 30,
        drops_unread: bool = True,
    ) -> None:
        super().__init__(identity=identity, error_depth=error_depth, drops_unread=drops_unread)
        self.model = model = Model.of(identity.split(",")[1] if "," in identity else "")
        self.quirks = panel or PanelQuirks()
        self.clips = self.quirks.out_of_range == "clip"
        self.tree.suffix_error = self.quirks.suffix_error
        options = acquisition or Options(
            memory_points=memory_points, adc_hz=model.rate_hz / 2, aperture_s=model.aperture_s
        )
        self.world, self.settings = world, Settings.fresh(model)
        self.acquisition = self.make_acquisition(options, seed)
        self.synthesiser = self.make_synthesiser(front or FrontEnd(), options, seed)
        self.oper_event = self.oper_enable = 0
        self.overloaded = self.mask_failed = False
        """Bits 11 and 9 of the operation register; only tests and faults set them, there is no 50-ohm input here."""
        self._oper_last = 0
        self.add("*OPT", query=lambda call: installed)
        traces = Traces(self)
        RootCommands(self)
        SystemCommands(self)
        ChannelCommands(self)
        PanelCommands(self)
        TriggerCommands(self)
        DisplayCommands(self, traces)
        MeasureCommands(self, traces)
        SegmentCommands(self, installed)
        add_kept(self)
        self.waveform = self.make_waveform(transfer or TransferQuirks())
        self.start("RUN")

    def make_acquisition(self, options: Options, seed: int) -> Acquisition:
        """What acquires; another one in an oscilloscope that plays records (`recorded`)."""
        return Acquisition(self.world, options, seed)

    def make_synthesiser(self, front: FrontEnd, options: Options, seed: int) -> Synthesiser:
        """What gives the samples."""
        return Synthesiser(self.world, front, options, seed)

    def make_waveform(self, transfer: TransferQuirks) -> WaveformCommands:
        """The subsystem that transfers them."""
        return WaveformCommands(self, transfer)

    # --- time -----------------------------------------------------------------------------------

    def on_time(self) -> None:
        """Bring world and acquisition to now."""
        self.world.advance(self.now_s)
        self.acquisition.advance(self.now_s)
        self.watch()
        self.settle_opc()

    def watch(self) -> None:
        """Latch rising condition bits in the event register."""
        now = self.condition()
        self.oper_event |= now & ~self._oper_last
        self._oper_last = now

    def condition(self) -> int:
        """Operation condition: bit 3 not stopped, bit 5 armed and waiting (PG3000 p.171)."""
        bits = RUN_BIT if self.acquisition.mode != "STOP" else 0
        bits |= WAIT_TRIGGER_BIT if self.acquisition.phase == "WAIT" else 0
        return bits | (MASK_BIT if self.mask_failed else 0) | (OVERLOAD_BIT if self.overloaded else 0)

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
        self.watch()

    def start(self, mode: Mode) -> None:
        """:RUN, :SINGle, :DIGitize."""
        self.acquisition.start(mode, self.settings, self.now_s)
        self.acquisition.advance(self.now_s)
        self.watch()

    def stop(self) -> None:
        """:STOP."""
        self.acquisition.stop()
        self.watch()

    def force(self) -> None:
        """:TRIGger:FORCe and *TRG."""
        self.acquisition.force(self.now_s)
        self.on_time()

    def bus_trigger(self) -> Job | None:
        """*TRG forces a trigger."""
        self.force()
        return None

    def on_job_aborted(self) -> None:
        """Device clear stops a digitize (PG4000 p.1599)."""
        if self.acquisition.mode == "DIG":
            self.stop()

    # --- status ---------------------------------------------------------------------------------

    def operation_pending(self) -> bool:
        """Whether *OPC, *OPC? and *WAI wait; DIGitize blocks anyway."""
        return self.acquisition.options.single_pends and self.acquisition.mode == "SING"

    def reset(self) -> None:
        """*RST, and the state at power-on: running, with automatic sweep."""
        self.settings = Settings.fresh(self.model)
        self.acquisition.record = None
        self.acquisition.triggered = self.acquisition.armed = False
        self.start("RUN")

    def clear_status(self) -> None:
        """*CLS."""
        super().clear_status()
        self.oper_event = 0
        self.acquisition.triggered = self.acquisition.armed = False

    def summary_bits(self) -> int:
        """Bit 7: the operation register; bit 0: a trigger has come."""
        operation = 128 if self.oper_event & self.oper_enable else 0
        return operation | (1 if self.acquisition.triggered else 0)

    def read_oper(self) -> str:
        """:OPERegister:EVENt?, cleared by reading."""
        self.watch()
        value, self.oper_event = self.oper_event, 0
        return f"{value:+d}"
