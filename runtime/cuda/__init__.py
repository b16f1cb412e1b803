"""p2's own decoder for NVIDIA GPUs."""
