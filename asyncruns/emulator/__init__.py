"""A real local server for the threads/runs protocol; it shares no code with the client."""

from asyncruns.emulator._clock import Clock, ManualClock, RunningClock
from asyncruns.emulator._faults import PROFILES
from asyncruns.emulator._script import Script
from asyncruns.emulator._server import Emulator

__all__ = ["PROFILES", "Clock", "Emulator", "ManualClock", "RunningClock", "Script"]
