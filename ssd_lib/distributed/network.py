"""Which of a machine's addresses, and which of its interfaces, leads to another machine."""

import os
import socket
import struct
import sys

ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR in <linux/sockios.h>


def own_address(host: str) -> str:
    """The address of this machine that `host` sees; the machine's name, which gloo goes by, often means itself alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        return str(probe.getsockname()[0])


def use_interface(address: str) -> None:
    """Let the processes that this one starts talk over the interface with this address, unless the user says which."""
    name = _interface(address)
    for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if name:
            os.environ.setdefault(key, name)


def _interface(address: str) -> str:
    """The name of the interface with this IPv4 address; empty where that is not to be had."""
    if not sys.platform.startswith("linux"):
        return ""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(probe, ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return ""
