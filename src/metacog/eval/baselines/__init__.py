"""What someone would use instead of the layer: one file each, and a registry of all of them."""
