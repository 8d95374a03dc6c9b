"""The pages' files: HTML, CSS and JavaScript, served as they are."""

from pathlib import Path

FOLDER = Path(__file__).parent
