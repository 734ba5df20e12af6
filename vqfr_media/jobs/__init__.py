"""Long videos: worked in segments, and taken up again where they stopped."""
