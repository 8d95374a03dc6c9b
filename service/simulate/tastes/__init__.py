"""What simulated users like in a reply: pure functions of the question and the reply."""

from service.simulate.tastes.registry import TASTES, TasteName
from service.simulate.tastes.taste import FEWEST_WORDS, Half, Taste

__all__ = ["FEWEST_WORDS", "TASTES", "Half", "Taste", "TasteName"]
