"""A model trained elsewhere becomes a checkpoint: what it holds is found, mapped, and proved."""
