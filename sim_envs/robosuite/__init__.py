"""robosuite's manipulation tasks as task environments with scripted experts."""
