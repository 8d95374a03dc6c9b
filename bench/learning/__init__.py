"""The learning laboratory: how many votes each way to learn needs. `run` first, then `report`."""
