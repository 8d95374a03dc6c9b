"""What tests of several rooms share, one package a room; tests of a room import its package."""
