// Command harmony-id is the sign-in of Harmony: an OpenID provider, its pages
// and its operator's commands in one program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // mails tell the time where their reader is, on every machine

	"github.com/alecthomas/kong"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// commands is the whole command line. What a command does is its Run method.
type commands struct {
	Config configFile `setting:"" placeholder:"FILE" help:"File of settings, one \"key = value\" a line."`

	LogFormat logFormat  `setting:"" default:"json" placeholder:"json|text" help:"Form of the log on stderr: json, or text for people."`
	LogLevel  slog.Level `setting:"" default:"info" placeholder:"LEVEL" help:"Least level that is logged: debug, info, warn or error."`

	Serve serveCommand `cmd:"" help:"Run the provider."`
	Dev   devCommand   `cmd:"" help:"Run everything on this machine to try it: the provider, two demo workspaces, demo people."`
	User  struct {
		Create       userCreate       `cmd:"" help:"Create a person."`
		Invite       userInvite       `cmd:"" help:"Create a person without a password and print a link that sets one."`
		Import       userImport       `cmd:"" help:"Create people from a file, with the password hashes that another program made."`
		List         userList         `cmd:"" help:"List people by email address."`
		Show         userShow         `cmd:"" help:"Show a person, and why sign-in is refused."`
		Disable      userDisable      `cmd:"" help:"Refuse a person every sign-in and end all sessions."`
		Enable       userEnable       `cmd:"" help:"Let a disabled person sign in again."`
		Delete       userDelete       `cmd:"" help:"Delete a person for good, with all sessions and tokens."`
		ResetLink    userResetLink    `cmd:"" help:"Print a link with which a person sets a new password."`
		Reset2FA     userReset2FA     `cmd:"" name:"reset-2fa" help:"Turn off the two-factor authentication of a person who lost it."`
		Unthrottle   userUnthrottle   `cmd:"" help:"Lift the limits on a person's attempts."`
		LinkGoogle   userLinkGoogle   `cmd:"" help:"Have a person sign in with Google from now on; the password stops working."`
		UnlinkGoogle userUnlinkGoogle `cmd:"" help:"Have a person sign in with a password from now on, in place of Google."`
		Sessions     struct {
			List userSessionsList `cmd:"" help:"List a person's sessions, the last used first."`
			End  userSessionsEnd  `cmd:"" help:"End one session of a person, or all."`
		} `cmd:"" help:"A person's sessions."`
	} `cmd:"" help:"People."`
	Client struct {
		Create       clientCreate `cmd:"" help:"Register a workspace (an OpenID Connect client)."`
		List         clientList   `cmd:"" help:"List registered workspaces."`
		Show         clientShow   `cmd:"" help:"Show a registered workspace."`
		Delete       clientDelete `cmd:"" help:"Delete a workspace, with all its tokens."`
		Update       clientUpdate `cmd:"" help:"Change what a workspace is registered with, in place."`
		Apply        clientApply  `cmd:"" help:"Make the registered workspaces those of a file."`
		RotateSecret clientRotate `cmd:"" help:"Give a workspace a new secret; the old one stops working at once."`
	} `cmd:"" help:"Workspaces."`
	Migrate struct {
		Status migrateStatus `cmd:"" help:"Show the steps of the database's schema."`
		Plan   migratePlan   `cmd:"" help:"Show the SQL of the steps that are pending, and who waits for it."`
		Up     migrateUp     `cmd:"" help:"Bring the database's schema up to date."`
	} `cmd:"" help:"The database's schema."`
	Keys struct {
		List   keysList   `cmd:"" help:"List the signing keys, and what each is for at the moment."`
		Rotate keysRotate `cmd:"" help:"Publish the next signing keys ahead of their time, or replace all at once."`
	} `cmd:"" help:"Signing keys."`
	Secrets struct {
		Generate secretsGenerate `cmd:"" help:"Print a new file of encryption keys."`
		Check    secretsCheck    `cmd:"" help:"Show which encryption keys the database needs, and how many values each of them sealed."`
		Rewrap   secretsRewrap   `cmd:"" help:"Seal everything in the database with the first key of the file, while everything runs."`
	} `cmd:"" help:"Encryption keys."`
	Backup struct {
		Create backupCreate `cmd:"" help:"Write all that the database cannot do without into one file, while everything runs."`
		Verify backupVerify `cmd:"" help:"Read a backup to its end and show what it holds, and which encryption keys it needs."`
	} `cmd:"" help:"Backups."`
	Restore restoreCommand `cmd:"" help:"Fill an empty database from a backup; all sessions end."`
	Outbox  struct {
		List  outboxList  `cmd:"" help:"List mails to people and logout messages to workspaces that were not delivered yet."`
		Retry outboxRetry `cmd:"" help:"Have what failed tried again at once."`
	} `cmd:"" help:"Messages that were not delivered yet."`
	Audit struct {
		List   auditList   `cmd:"" help:"List what happened, the newest first."`
		Export auditExport `cmd:"" help:"Write what happened as a JSON object a line, the oldest first."`
	} `cmd:"" help:"What happened, and who did it."`
	Mail struct {
		Test mailTest `cmd:"" help:"Send one mail through the settings, to see that they are right."`
	} `cmd:"" help:"Mail."`
	Conf struct {
		Check    configCheck    `cmd:"" help:"Check the settings, and whether what they name is there."`
		Print    configPrint    `cmd:"" help:"Print the settings as serve would take them, without secrets."`
		Template configTemplate `cmd:"" help:"Print a file of settings with everything that can be set."`
	} `cmd:"" name:"config" help:"Settings."`
	Doctor      doctor         `cmd:"" help:"Examine a provider that serves: what is wrong, and what to do."`
	Healthcheck healthcheck    `cmd:"" help:"Ask the provider that serves here whether it is well."`
	Version     versionCommand `cmd:"" help:"Show the version."`
}

// The exit codes. They are an interface: see docs/commands.md.
const (
	exitOK       = 0
	exitFailed   = 1 // something broke; the same command may work later
	exitUsage    = 2 // the command line or the settings are wrong
	exitNotFound = 3
	exitRefused  = 4 // understood and refused; the same command will be refused again
	exitPending  = 5 // the database's schema and the program do not fit
)

// An exit is an error that knows its exit code.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exit{exitUsage, fmt.Errorf(format, args...)}
}

// A program is what a command has of the world outside.
type program struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	settings       *sources
	log            *slog.Logger
	logFormat      logFormat
	logLevel       slog.Level
	logChosen      logChosen
}

// logChosen says which of the log's settings somebody wrote, for dev has
// defaults of its own.
type logChosen struct{ format, level bool }

func main() {
	noDumps()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it. environ is the whole environment
// and not a look-up, for a HARMONY_ID_ variable that nobody knows is an error.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr, settings: newSources(environ)}
	if err := p.run(ctx, args); err != nil {
		message, code := explain(err)
		fmt.Fprintf(stderr, "harmony-id: %s\n", message)
		return code
	}
	return exitOK
}

func (p *program) run(ctx context.Context, args []string) error {
	var c commands
	helped := false
	k, err := kong.New(&c,
		kong.Name("harmony-id"),
		kong.Description("Harmony ID signs people in to their workspaces. To try it: harmony-id dev"),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(int) { helped = true }), // only --help comes here
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(describe),
		kong.Resolvers(p.settings),
		kong.Bind(p.settings, p),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	p.settings.know(k.Model)
	bare := len(args) == 0
	switch {
	case bare:
		args = []string{"--help"}
	case len(args) == 1 && args[0] == "--version": // what one tries first
		args = []string{"version"}
	}
	parsed, err := k.Parse(args)
	switch {
	case bare:
		return usagef("say what to do: one of the commands above")
	case helped:
		return nil
	case err != nil:
		return usageError(err)
	}
	if err := p.settings.check(parsed); err != nil {
		return err
	}
	p.logChosen = logChosen{p.settings.origin("log-format") != "", p.settings.origin("log-level") != ""}
	p.logFormat, p.logLevel = c.LogFormat, c.LogLevel
	p.startLog(c.LogFormat, c.LogLevel)
	return parsed.Run()
}

// usageError is the error of a command line that cannot be, without the
// parser's own words around it.
func usageError(err error) error {
	if s, ok := errors.AsType[*settingError](err); ok {
		return &exit{exitUsage, s}
	}
	if e, ok := errors.AsType[*exit](err); ok {
		return e
	}
	return &exit{exitUsage, fmt.Errorf("%w\nharmony-id --help shows what there is", err)}
}

// explain turns an error into what is said of it and the exit code.
func explain(err error) (string, int) {
	if e, ok := errors.AsType[*exit](err); ok {
		return e.Error(), e.code
	}
	if errors.Is(err, context.Canceled) {
		return "stopped before it was done", exitFailed
	}
	if errors.Is(err, account.ErrNotFound) || errors.Is(err, idp.ErrNotFound) {
		return err.Error(), exitNotFound
	}
	if errors.Is(err, db.ErrNewerSchema) {
		return err.Error() + ": run the newer program, or restore the backup from before its migration", exitPending
	}
	if errors.Is(err, account.ErrNoKeys) {
		return fmt.Sprintf("%s: write %s=FILE", err, variable("encryption-keys-file")), exitUsage
	}
	if refused(err) {
		return err.Error(), exitRefused
	}
	return err.Error(), exitFailed
}

// refused reports whether the same command will meet the same answer again.
func refused(err error) bool {
	for _, rule := range []error{
		account.ErrEmailTaken, account.ErrTooLong, account.ErrGoogle, account.ErrOn, account.ErrOff,
		idp.ErrClientExists, idp.ErrNoSecret,
	} {
		if errors.Is(err, rule) {
			return true
		}
	}
	if _, ok := errors.AsType[*account.WeakError](err); ok {
		return true
	}
	_, ok := errors.AsType[*account.InvalidError](err)
	return ok
}

// newLog is the log on stderr. Times are UTC, as everywhere.
func newLog(w io.Writer, format logFormat, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
				a.Value = slog.TimeValue(a.Value.Time().UTC().Truncate(time.Microsecond))
			}
			return a
		},
	}
	if format == logText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// startLog makes the program's log. Libraries which know no other than the
// default log tell of errors alone, unless everything is asked for: what they
// say of requests stands in ours.
func (p *program) startLog(format logFormat, level slog.Level) {
	p.log = newLog(p.stderr, format, level)
	if level > slog.LevelDebug {
		level = max(level, slog.LevelError)
	}
	slog.SetDefault(newLog(p.stderr, format, level))
}

// variable is how a setting is spelt in the environment.
func variable(key string) string {
	return environPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}
