"""Side by side with peers and limits; each prints ratios."""
