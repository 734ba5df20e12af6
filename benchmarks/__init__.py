"""One file for each figure we quote; every one prints a table and writes JSON to results/."""
