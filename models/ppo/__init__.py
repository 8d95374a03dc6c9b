"""The mathematics of PPO from votes: advantages, losses, KL and rewards, as pure functions.

Suffixes name the axes of a tensor (table in CONTRIBUTING): ``_B`` has one value for each reply,
``_BT`` one for each reply token. Masks are True where a token is kept.
"""
