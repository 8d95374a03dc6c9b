"""The HTTP application: how it is put together and served."""
