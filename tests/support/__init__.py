"""What tests of several rooms share: doubles, models of the store, and processes to break."""
