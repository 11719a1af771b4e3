"""A real local server for the threads/runs protocol; it shares no code with the client."""

from asyncruns.emulator._clock import Clock, ManualClock, RunningClock
from asyncruns.emulator._server import Emulator

__all__ = ["Clock", "Emulator", "ManualClock", "RunningClock"]
