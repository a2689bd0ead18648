"""A run as files for other programs: ONNX, OpenVINO, a web page, a prompt."""
