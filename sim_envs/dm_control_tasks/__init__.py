"""The dm_control suite (Tassa et al., 2018) and the Jaco manipulation tasks of dm_control."""
