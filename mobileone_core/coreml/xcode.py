"""Checks the requirements of measuring on an iPhone, one by one; each error names its remedy."""

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobileone_core.errors import InputError, require

MIN_XCODE, MIN_IOS, PLAN_IOS, PLAN_MACOS = (15,), (17,), (17, 4), (14, 4)
SECONDS = 60  # timeout of a tool that only prints information
ELSEWHERE = (
    "copy the package to a Mac and run the same command there, or measure with an app or Xcode and import the numbers "
    "with `mobileone latency import`"
)


def version(text: str) -> tuple[int, ...]:
    """Parse the first version in a text, e.g. 17.4.1 as (17, 4, 1); empty if there is none."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, match.group().split("."))) if match else ()


def require_macos(what: str) -> tuple[int, ...]:
    """Return the version of macOS. Raises InputError on another system, with an alternative."""
    output = _output("sw_vers", "-productVersion")
    if output is None:
        raise InputError(f"device: {what} needs macOS, and this is {platform.system()}; {ELSEWHERE}")
    return version(output)


def require_xcode() -> None:
    """Raise InputError without Xcode 15 or newer; put its devicectl on PATH, where coremltools looks for it."""
    output = _output("xcodebuild", "-version")
    cure = "install Xcode 15 or newer from the App Store, then `sudo xcode-select -s /Applications/Xcode.app`"
    if output is None:
        raise InputError(f"xcode: not installed, or only its command line tools; {cure}")
    if version(output) < MIN_XCODE:
        raise InputError(f"xcode: {' '.join(output.split())} is too old; {cure}")
    if shutil.which("devicectl"):
        return
    path = _output("xcrun", "-f", "devicectl")
    if path is None or not Path(path.strip()).is_file():
        raise InputError("devicectl: xcrun -f devicectl does not find it; open Xcode once and let it install its tools")
    os.environ["PATH"] = os.pathsep.join([str(Path(path.strip()).parent), os.environ.get("PATH", "")])


def require_team(team: str) -> None:
    """Raise InputError unless team looks like a development team id."""
    cure = "ten capitals and digits: Xcode, Settings, Accounts, your team; a free Apple account has one too: --team ID"
    require(re.fullmatch(r"[A-Z0-9]{10}", team) is not None, "team", team, cure)


def find_iphone(devices: Sequence[Any], name: str) -> Any:
    """Return the one connected iPhone in developer mode with iOS 17 or newer. Raises InputError with a remedy."""
    phones = [item for item in devices if item.type.value == "iphone"]
    require(bool(phones), "iphone", "none", "an iPhone: connect one by cable, unlock it and tap Trust")
    named = [item for item in phones if name in ("", item.name)]
    names = ", ".join(item.name for item in phones)
    require(bool(named), "name", name, f"one of {names}")
    connected = [item for item in named if item.state.value == "connected"]
    state = ", ".join(f"{item.name}: {item.state.value}" for item in named)
    cure = "connected: plug it in, unlock it, and wait until Xcode's Devices window shows it"
    require(bool(connected), "iphone", state, cure)
    require(len(connected) == 1, "iphone", names, "exactly one: choose with --name")
    phone = connected[0]
    cure = "enabled: Settings, Privacy & Security, Developer Mode on the iPhone, then restart it"
    require(phone.developer_mode_state == "enabled", "developer mode", phone.developer_mode_state, cure)
    require(version(phone.os_version) >= MIN_IOS, "iOS", phone.os_version, "17 or newer: update the iPhone")
    return phone


def product_name(identifier: str) -> str:
    """Return the model of a device, e.g. iPhone 12 (iPhone13,2), or iPhone if devicectl does not list it."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        if _output("xcrun", "devicectl", "list", "devices", "-j", file.name, empty=True) is None:
            return "iPhone"
        listed = json.loads(Path(file.name).read_text(encoding="utf-8"))["result"]["devices"]
    found = (item["hardwareProperties"] for item in listed if item["identifier"] == identifier)
    hardware: dict[str, str] = next(found, {})
    name, kind = hardware.get("marketingName", "iPhone"), hardware.get("productType", "")
    return f"{name} ({kind})" if kind else name


def why_not_built(output: str) -> InputError:
    """Explain from xcodebuild's output why the app was not built."""
    lines = [line.strip() for line in output.splitlines() if "error:" in line] or output.split("\n")[-1:]
    reason = lines[0][:200]
    if re.search(r"sign|provisioning|development team|certificate|account", output, re.IGNORECASE):
        cure = "unlock the keychain; trust the developer on the iPhone, Settings, General, VPN & Device Management"
        return InputError(f"signing: {reason or 'refused'}; sign in to this team in Xcode, Settings, Accounts; {cure}")
    cure = "open Xcode once and let it install iOS support; if it fails again, remove the directory of --work"
    return InputError(f"build: xcodebuild failed: {reason or 'no output'}; {cure}")


def _output(*command: str, empty: bool = False) -> str | None:
    """Return what a tool prints, or None if it is missing, fails, hangs, or prints nothing and empty is False."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and (empty or done.stdout.strip()) else None
