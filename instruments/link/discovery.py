"""Which VISA resources there are to see from here, and which of them may be asked who they are."""

from __future__ import annotations

import warnings

from .visa import backend_name, check_library


def visible_resources(visa: str) -> list[str]:
    """Give the resources that the VISA library finds, sorted; it may take some seconds.

    No library finds raw sockets, or what is behind an Ethernet adapter: their resources must be known. Raises
    ConfigError when the library cannot be loaded.
    """
    import pyvisa

    check_library(visa)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what would be found with other packages installed
        return sorted(str(found) for found in pyvisa.ResourceManager(backend_name(visa)).list_resources("?*"))


def may_be_asked(resource: str) -> bool:
    """Whether ``*IDN?`` does no harm there: opening a serial line can move the lines of what is no instrument."""
    return resource.upper().startswith(("TCPIP", "USB", "GPIB", "VXI", "PXI"))
