//go:build !unix

package main

// noDumps has nothing to forbid here.
func noDumps() {}
