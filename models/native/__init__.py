"""What both compiled programs share: the compiler, common headers, and what a processor can do."""
