//go:build darwin || freebsd || linux || netbsd || openbsd

package db

import (
	"crypto/tls"
	"net"
	"syscall"
)

// spoken reports, without waiting, whether a connection was closed at the other end
// or has something to be read.
func spoken(c net.Conn) (yes bool) {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	// Not raw.Read: pgx may have a reader left that waits for the next statement's answer.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		yes = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK && err != syscall.EINTR // bytes, the end, or it broke
	})
	return yes || err != nil
}
