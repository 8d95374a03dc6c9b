"""The application and the command line for tests: who uses them, and how."""
