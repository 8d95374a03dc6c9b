"""How many votes each way to learn needs: `python -m bench.learning.run`, then `.report`."""
