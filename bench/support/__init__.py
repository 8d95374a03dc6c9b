"""What benches share: servers, loads, peers, and the machine's description."""
