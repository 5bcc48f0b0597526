package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A server is a running PostgreSQL.
type server struct {
	dir   string // its data, its socket and its log
	cmd   *exec.Cmd
	ended chan struct{}
}

func start() (_ *server, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	owner, err := credential()
	if err != nil {
		return nil, err
	}
	// The path of a socket has room for about 100 bytes, so not in $TMPDIR,
	// which is long on macOS.
	dir, err := os.MkdirTemp("/tmp", "harmony-id-pg-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return nil, err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		// A group of its own: Ctrl-C is for the command, and the server must
		// not go before it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
		return cmd
	}
	locale := "C.UTF-8"
	if runtime.GOOS == "darwin" {
		locale = "C" // the same order; older ones do not know the other
	}
	out, err := command("initdb", "--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8",
		"--locale="+locale, "--no-sync").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &server{dir: dir, ended: make(chan struct{})}
	s.cmd = command("postgres", "-D", "data", "-k", dir,
		"-c", "listen_addresses=", "-c", "max_connections=400",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "wal_level=minimal", "-c", "max_wal_senders=0",
		"-c", "max_wal_size=256MB", "-c", "jit=off")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.ready(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("starting PostgreSQL: %w\n%s", err, text), s.stop())
	}
	return s, nil
}

// ready waits until the server says in its file that it takes connections.
func (s *server) ready() error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		select {
		case <-s.ended:
			return errors.New("it ended at once")
		case <-time.After(20 * time.Millisecond):
		}
		// The eighth line is the state (src/include/utils/pidfile.h).
		text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
		if lines := bytes.Split(text, []byte("\n")); err == nil && len(lines) > 7 && bytes.HasPrefix(lines[7], []byte("ready")) {
			c, err := net.Dial("unix", filepath.Join(s.dir, ".s.PGSQL.5432"))
			if err == nil {
				err = c.Close()
			}
			return err
		}
	}
	return errors.New("it does not get ready")
}

// stop ends the server, politely at first, and removes what it leaves.
func (s *server) stop() error {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} { // fast, immediate
		_ = s.cmd.Process.Signal(sig) // it may have ended by itself
		select {
		case <-s.ended:
			return os.RemoveAll(s.dir)
		case <-time.After(10 * time.Second):
		}
	}
	return fmt.Errorf("PostgreSQL (process %d) does not end", s.cmd.Process.Pid)
}

func (s *server) url() string {
	q := url.Values{"host": {s.dir}, "user": {"postgres"}, "sslmode": {"disable"}}
	return "postgres:///postgres?" + q.Encode()
}

// binaries finds the directory of the newest PostgreSQL.
func binaries() (string, error) {
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",              // Debian
		"/usr/pgsql-*/bin",                       // Red Hat
		"/opt/homebrew/opt/postgresql@*/bin",     // Homebrew
		"/usr/local/opt/postgresql@*/bin",        // Homebrew on Intel
		"/home/linuxbrew/*/opt/postgresql@*/bin", // Homebrew on Linux
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
				found = append(found, dir)
			}
		}
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			return filepath.Dir(initdb), nil
		}
	}
	return "", errors.New("there is no PostgreSQL here; tools/install.sh installs it, or set " + variable + " to a server's URL")
}

var digits = regexp.MustCompile(`\d+`)

func version(dir string) int {
	n, _ := strconv.Atoi(digits.FindString(dir)) // none is less than any
	return n
}

// credential is the user that the server runs as: PostgreSQL refuses to be
// root. Nil is whoever runs this.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres")
}
