"""The mathematics of PPO from votes: pure functions over tensors.

Suffixes name axes (CONTRIBUTING has the table): ``_B`` one value a reply, ``_BT`` one a reply
token. Masks are True where a token is kept.
"""
