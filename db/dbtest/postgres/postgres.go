// Package postgres runs private PostgreSQL servers for tests: each in a directory of
// its own, listening on a socket there and nowhere else.
package postgres

import (
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
	"strings"
	"syscall"
	"time"
)

// A Server is a PostgreSQL server. It is not safe for concurrent use.
type Server struct {
	bin      string
	owner    *syscall.Credential
	dir      string   // its data, its socket and its log
	settings []string // name=value
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
}

// Fast are the settings of a server whose data nobody wants back: it forgets the disk.
var Fast = []string{"fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "max_wal_size=256MB"}

// New makes a server with an empty database and starts it. settings are name=value, as
// in postgresql.conf.
func New(settings ...string) (_ *Server, err error) {
	s, err := newServer(settings)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Remove())
		}
	}()
	locale := "C.UTF-8"
	if runtime.GOOS == "darwin" {
		locale = "C" // the same order; older ones do not know the other
	}
	if err := s.run("initdb", "--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale="+locale, "--no-sync"); err != nil {
		return nil, err
	}
	return s, s.Start()
}

// Standby makes a server that follows s, and starts it. s must allow it, as PostgreSQL
// does unless told otherwise.
func (s *Server) Standby(settings ...string) (_ *Server, err error) {
	standby, err := newServer(settings)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, standby.Remove())
		}
	}()
	if err := standby.run("pg_basebackup", "--pgdata=data", "--host="+s.dir, "--username=postgres", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"); err != nil {
		return nil, err
	}
	return standby, standby.Start()
}

func newServer(settings []string) (*Server, error) {
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
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return &Server{bin: bin, owner: owner, dir: dir, settings: settings}, nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// A group of its own: Ctrl-C is for the command, and the server must
	// not go before it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.owner}
	return cmd
}

func (s *Server) run(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// Start starts a server that does not run, and waits until it takes connections.
func (s *Server) Start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", "data", "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=400", "-c", "jit=off"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.cmd, s.ended = s.command("postgres", args...), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
	if err := s.ready(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("starting PostgreSQL: %w\n%s", err, text)
	}
	return nil
}

// ready waits until the server says in its file that it takes connections.
func (s *Server) ready() error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		select {
		case <-s.ended:
			return errors.New("it ended at once")
		case <-time.After(20 * time.Millisecond):
		}
		// The first line is the process, the eighth its state (src/include/utils/pidfile.h).
		text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
		lines := strings.Split(string(text), "\n")
		if err == nil && len(lines) > 7 && lines[0] == strconv.Itoa(s.cmd.Process.Pid) && strings.HasPrefix(lines[7], "ready") {
			c, err := net.Dial("unix", filepath.Join(s.dir, ".s.PGSQL.5432"))
			if err == nil {
				err = c.Close()
			}
			return err
		}
	}
	return errors.New("it does not get ready")
}

// Signal ends the server and waits until it has: SIGINT breaks connections and closes
// the files, SIGQUIT and SIGKILL leave it to the next start to make them good.
func (s *Server) Signal(sig syscall.Signal) error {
	if s.cmd == nil {
		return errors.New("PostgreSQL does not run")
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case <-s.ended:
		s.cmd = nil
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("PostgreSQL (process %d) does not end", s.cmd.Process.Pid)
	}
}

// Promote makes a standby a server that is written to, and waits until it is.
func (s *Server) Promote() error { return s.run("pg_ctl", "promote", "--pgdata=data", "--wait") }

// Exec has a server run statements, each by itself.
func (s *Server) Exec(statements ...string) error {
	for _, one := range statements {
		if err := s.run("psql", "--host="+s.dir, "--username=postgres", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command="+one); err != nil {
			return err
		}
	}
	return nil
}

// Remove ends the server, politely at first, and removes what it leaves.
func (s *Server) Remove() error {
	var err error
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} { // fast, immediate
		if s.cmd == nil {
			break
		}
		err = s.Signal(sig)
	}
	if s.cmd != nil {
		return err
	}
	return os.RemoveAll(s.dir)
}

// URL is where the server is, and its first database. URL of several servers, such as
// a primary and its standby, finds the one that can be written to.
func URL(servers ...*Server) string {
	var dirs []string
	for _, s := range servers {
		dirs = append(dirs, s.dir)
	}
	q := url.Values{"host": {strings.Join(dirs, ",")}, "user": {"postgres"}, "sslmode": {"disable"}}
	if len(servers) > 1 {
		q.Set("target_session_attrs", "read-write")
		q.Set("connect_timeout", "2")
	}
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
	return "", errors.New("there is no PostgreSQL here; tools/install.sh installs it, or set HARMONY_ID_TEST_POSTGRES to a server's URL")
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
