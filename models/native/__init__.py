"""The compiler driver, the C++ headers and the processor checks of both compiled libraries."""
