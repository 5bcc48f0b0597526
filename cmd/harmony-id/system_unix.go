//go:build unix

package main

import (
	"os"
	"syscall"
)

// noDumps forbids a core dump, which would hold keys and passwords (LG-08).
func noDumps() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) // a system that refuses is no worse off than before
}

// lockFile takes a lock that ends with the process, or fails at once.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
