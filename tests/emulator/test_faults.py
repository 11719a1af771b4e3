"""The table of profiles: chosen by name, each of them tried, and a plain run survives those that leave it alone."""

from pathlib import Path

import pytest

from asyncruns.emulator import PROFILES, Emulator

SPOILT = {"limit-unchecked", "instructions-required"}


@pytest.mark.parametrize("name", [*PROFILES, None])
def test_profiles_are_set_by_name(name):
    """Every name of the table is taken, when the emulator is made and afterwards; None is the published behaviour."""
    emulator = Emulator(profile=name)
    assert emulator.profile == name
    emulator.profile = None
    assert emulator.profile is None


def test_unknown_profiles_are_refused(emulator):
    """A profile nobody knows is an error that names those that exist, and changes nothing."""
    emulator.profile = "stream-cut"
    with pytest.raises(ValueError, match=r"a profile is one of newest-first-loses, .* not 'nope'"):
        emulator.profile = "nope"
    with pytest.raises(ValueError, match="a profile is one of"):
        Emulator(profile="nope")
    assert emulator.profile == "stream-cut"


def test_every_profile_is_shown_by_a_test():
    """No profile is in the table that the neighbouring tests do not set."""
    texts = "".join(path.read_text() for path in Path(__file__).parent.glob("test_fault_*.py"))
    assert [name for name in PROFILES if f'"{name}"' not in texts] == []


@pytest.mark.parametrize("name", sorted(set(PROFILES) - SPOILT))
async def test_plain_runs_still_end(wire, name):
    """Whatever a profile shows otherwise, a run that is made and read as JSON comes to its end."""
    wire.emulator.profile = name
    path = await wire.run()
    wire.emulator.clock.advance(10)
    assert (await wire.get(path))["status"] == "completed"
