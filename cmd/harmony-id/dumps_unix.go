//go:build unix

package main

import "syscall"

// noDumps forbids a core dump, which would hold keys and passwords (LG-08).
func noDumps() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) // a system that refuses is no worse off than before
}
