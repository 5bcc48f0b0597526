// Command withpg runs a command beside a private PostgreSQL server:
//
//	go run ./db/dbtest/withpg -- go test ./...
//
// The command finds the server in HARMONY_ID_TEST_POSTGRES. The server listens
// on a socket in a directory of its own and nowhere else, forgets the disk
// (fsync=off), and is gone when the command ends or is interrupted. If the
// variable is set already, the command runs with that server. The exit code is
// the command's.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/harmony/id/db/dbtest/postgres"
)

const variable = "HARMONY_ID_TEST_POSTGRES"

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpg:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(args []string) (code int, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 2, errors.New("usage: withpg -- COMMAND [ARGUMENT…]")
	}
	signals := make(chan os.Signal, 8) // before there is anything to clean up
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	env := os.Environ()
	if os.Getenv(variable) == "" {
		pg, err := postgres.New(postgres.Fast...)
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, pg.Remove()) }()
		env = append(env, variable+"="+postgres.URL(pg))
	}
	if len(signals) > 0 {
		return 130, nil
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	parent, look := os.Getppid(), time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-look.C: // "go run" passes no SIGTERM on: it just dies
			if os.Getppid() != parent {
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended by itself
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					return 128 + int(status.Signal()), nil
				}
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}
