"""The cockpit: a terminal program that starts runs and shows what happens in them; no torch."""
