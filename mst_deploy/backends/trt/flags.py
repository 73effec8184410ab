"""Names of builder options in the identity of an engine."""

VERSION_COMPATIBLE = "version-compatible"
HARDWARE_COMPATIBLE = "hardware-compatible"
STRIPPED = "stripped"
