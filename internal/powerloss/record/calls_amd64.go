//go:build linux

package main

import "golang.org/x/sys/unix"

// modern gives a system call in its present form: the older ones lack the folder that a path is relative to.
func modern(nr uint64, args [6]uint64) (uint64, [6]uint64) {
	const here = ^uint64(99) // AT_FDCWD
	switch nr {
	case unix.SYS_OPEN:
		return unix.SYS_OPENAT, [6]uint64{here, args[0], args[1], args[2]}
	case unix.SYS_RENAME:
		return unix.SYS_RENAMEAT, [6]uint64{here, args[0], here, args[1]}
	case unix.SYS_UNLINK, unix.SYS_RMDIR:
		return unix.SYS_UNLINKAT, [6]uint64{here, args[0]}
	case unix.SYS_MKDIR:
		return unix.SYS_MKDIRAT, [6]uint64{here, args[0], args[1]}
	case unix.SYS_DUP2:
		return unix.SYS_DUP, args
	}
	return nr, args
}
