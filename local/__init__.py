"""What runs Redress on one machine: the emulated AWS and what starts it. Nothing here ships to AWS."""
