"""The image and the text tower of a checkpoint folder, as ONNX graphs with sessions."""
