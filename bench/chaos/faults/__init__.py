"""Defines what goes wrong, one class for each kind of fault. `inject` begins a fault, `heal` ends it.

    fault.py      the protocol, what can be drawn (FaultKind), and two faults at once (Together)
    process.py    Kill and Pause     network.py    Cut and Toxic     machine.py    FullDisk and WrongClock
    store.py      FlushAll and DamagedBlob         power.py, maintenance.py, attack.py    PowerCut, Maintenance, Attack

A kill is over at once; the process must be started again by its supervisor. Other faults last `lasts_s` seconds.
"""

from bench.chaos.faults.attack import Attack
from bench.chaos.faults.fault import Family, Fault, FaultKind, Lasting, Together
from bench.chaos.faults.machine import FullDisk, WrongClock
from bench.chaos.faults.maintenance import Maintenance
from bench.chaos.faults.network import TOXICS, Cut, Toxic
from bench.chaos.faults.power import PowerCut
from bench.chaos.faults.process import Kill, Pause, Pids
from bench.chaos.faults.store import DamagedBlob, FlushAll

__all__ = [
    "TOXICS",
    "Attack",
    "Cut",
    "DamagedBlob",
    "Family",
    "Fault",
    "FaultKind",
    "FlushAll",
    "FullDisk",
    "Kill",
    "Lasting",
    "Maintenance",
    "Pause",
    "Pids",
    "PowerCut",
    "Together",
    "Toxic",
    "WrongClock",
]
