"""The program that the design began with, on models of its own."""
