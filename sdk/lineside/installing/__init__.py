"""From a bundle's file, or from bytes received, to a slot where it is proved and pending."""

from lineside.installing.admission import slot_file
from lineside.installing.checking import CheckedFile, check_bundle_file
from lineside.installing.inventory import Inventory, StoredBundle, take_inventory
from lineside.installing.proof import Proof
from lineside.installing.road import finish_install, install_file
from lineside.installing.room import check_room
from lineside.installing.target import check_target, machine_targets
from lineside.installing.terms import DEFAULT_TERMS, Installed, InstallTerms
from lineside.installing.wayback import go_back

__all__ = [
    "DEFAULT_TERMS",
    "CheckedFile",
    "InstallTerms",
    "Installed",
    "Inventory",
    "Proof",
    "StoredBundle",
    "check_bundle_file",
    "check_room",
    "check_target",
    "finish_install",
    "go_back",
    "install_file",
    "machine_targets",
    "slot_file",
    "take_inventory",
]
