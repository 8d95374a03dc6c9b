"""What simulated users like in a reply: pure functions of the question and the reply."""

from service.simulate.tastes.taste import FEWEST_WORDS, Half, Taste
from service.simulate.tastes.registry import TASTES, TasteName

__all__ = ["FEWEST_WORDS", "TASTES", "Half", "Taste", "TasteName"]
