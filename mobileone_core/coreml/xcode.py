"""What measuring on an iPhone needs, checked one by one; each refusal says what to do about it."""

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

LEAST_XCODE, LEAST_IOS, LEAST_PLAN = (15,), (17,), (17, 4)
PLAN_MACOS = (14, 4)
SECONDS = 60  # of a tool that only tells something
ELSEWHERE = (
    "copy the package to a Mac and give the same command there, or measure with an app or Xcode and take the numbers "
    "in with `mobileone latency import`"
)


def version(text: str) -> tuple[int, ...]:
    """17.4.1 as (17, 4, 1); nothing for what is no version."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found.group().split("."))) if found else ()


def require_macos(what: str) -> tuple[int, ...]:
    """The version of macOS; InputError on another system, with how to go on."""
    told = _told("sw_vers", "-productVersion")
    if told is None:
        raise InputError(f"device: {what} needs macOS, and this is {platform.system()}; {ELSEWHERE}")
    return version(told)


def require_xcode() -> None:
    """Xcode 15 or newer with devicectl on PATH, where coremltools looks for it; InputError."""
    told = _told("xcodebuild", "-version")
    cure = "install Xcode 15 or newer from the App Store, then `sudo xcode-select -s /Applications/Xcode.app`"
    if told is None:
        raise InputError(f"xcode: not there, or the command line tools alone are; {cure}")
    if version(told) < LEAST_XCODE:
        raise InputError(f"xcode: {' '.join(told.split())} is too old; {cure}")
    if shutil.which("devicectl"):
        return
    found = _told("xcrun", "-f", "devicectl")
    if found is None or not Path(found.strip()).is_file():
        raise InputError("devicectl: xcrun -f devicectl does not find it; open Xcode once and let it install its tools")
    os.environ["PATH"] = os.pathsep.join([str(Path(found.strip()).parent), os.environ.get("PATH", "")])


def require_team(team: str) -> None:
    """A development team id; InputError."""
    cure = "ten capitals and digits: Xcode, Settings, Accounts, your team; a free Apple account has one too: --team ID"
    require(re.fullmatch(r"[A-Z0-9]{10}", team) is not None, "team", team, cure)


def find_iphone(devices: Sequence[Any], name: str) -> Any:  # noqa: ANN401
    """The one connected iPhone in developer mode with iOS 17 or newer, of coremltools' devices; InputError."""
    phones = [item for item in devices if item.type.value == "iphone"]
    require(bool(phones), "iphone", "none", "an iPhone: connect one by cable, unlock it and tap Trust")
    named = [item for item in phones if name in ("", item.name)]
    names = ", ".join(item.name for item in phones)
    require(bool(named), "name", name, f"one of {names}")
    connected = [item for item in named if item.state.value == "connected"]
    state = ", ".join(f"{item.name}: {item.state.value}" for item in named)
    require(
        bool(connected),
        "iphone",
        state,
        "connected: plug it in, unlock it, and wait until Xcode's Devices window shows it",
    )
    require(len(connected) == 1, "iphone", names, "one alone: say which with --name")
    phone = connected[0]
    mode = str(phone.developer_mode_state)
    cure = "enabled: Settings, Privacy & Security, Developer Mode on the iPhone, then restart it"
    require(mode == "enabled", "developer mode", mode, cure)
    require(version(phone.os_version) >= LEAST_IOS, "iOS", phone.os_version, "17 or newer: update the iPhone")
    return phone


def product_name(identifier: str) -> str:
    """The model of a device, as iPhone 12 (iPhone13,2), which coremltools leaves out; iPhone where it is not told."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        if _told("xcrun", "devicectl", "list", "devices", "-j", file.name, empty=True) is None:
            return "iPhone"
        listed = json.loads(Path(file.name).read_text(encoding="utf-8"))["result"]["devices"]
    found: dict[str, str] = next(
        (item["hardwareProperties"] for item in listed if item["identifier"] == identifier), {}
    )
    name, kind = found.get("marketingName", "iPhone"), found.get("productType", "")
    return f"{name} ({kind})" if kind else name


def why_not_built(output: str) -> InputError:
    """What kept the app from being built, from what xcodebuild told."""
    lines = [line.strip() for line in output.splitlines() if "error:" in line] or output.split("\n")[-1:]
    words = lines[0][:200] if lines else ""
    if re.search(r"sign|provisioning|development team|certificate|account", output, re.IGNORECASE):
        cure = (
            "sign in to this team in Xcode, Settings, Accounts; unlock the keychain; trust the developer on the iPhone"
        )
        return InputError(f"signing: {words or 'refused'}; {cure}, Settings, General, VPN & Device Management")
    cure = "open Xcode once and let it install iOS support; if it goes on, remove the directory of --work"
    return InputError(f"build: xcodebuild failed: {words or 'it told nothing'}; {cure}")


def _told(*command: str, empty: bool = False) -> str | None:
    """What a tool prints; None where it is not there, fails or hangs, or prints nothing unless that may be empty."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and (empty or done.stdout.strip()) else None
