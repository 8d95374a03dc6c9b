"""Export and import of feedback: layouts and checks are pure, files are at the edge."""
