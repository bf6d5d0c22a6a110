"""Detectors out of Python: exported to ONNX or OpenVINO, and run there without torch."""
