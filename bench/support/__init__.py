"""What benches share: servers of their own, loads, the machine's description."""
