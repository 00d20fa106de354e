"""First floor: the doors to what lies outside, each with its promise, the real one and the pretend one."""
