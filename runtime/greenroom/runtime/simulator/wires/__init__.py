"""The wire formats that the simulator speaks: bytes to questions and answers to bytes, one folder a format."""
