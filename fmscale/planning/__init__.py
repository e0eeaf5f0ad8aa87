"""What a sweep trains and what that costs, worked out before any compute; no torch."""
