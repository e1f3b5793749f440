"""Where frames come from: one file a kind of source, all behind one protocol."""

from lineside.sources.capture import Capture, Memory, Source
from lineside.sources.folder import FolderSettings, FolderSource

__all__ = ["Capture", "FolderSettings", "FolderSource", "Memory", "Source"]
