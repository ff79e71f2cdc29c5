//go:build linux

package main

// modern gives a system call in its present form; this architecture has no older ones.
func modern(nr uint64, args [6]uint64) (uint64, [6]uint64) { return nr, args }
