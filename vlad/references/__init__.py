"""What is remembered of good pictures, under which conditions, and the thresholds that follow."""

from vlad.references.memory import MemorySettings, Reference, ReferenceMemory, fingerprint

__all__ = ["MemorySettings", "Reference", "ReferenceMemory", "fingerprint"]
