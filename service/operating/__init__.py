"""What operators do, for the routes and the command line: changes, imports, and checks."""
