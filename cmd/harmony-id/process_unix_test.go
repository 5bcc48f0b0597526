//go:build unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// Tests in which the program is a process of its own, as operators run it: the test
// program itself, told to be it.

const asProgram = "HARMONY_ID_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	must(1, os.Unsetenv(asProgram))(nopTB{}) // serve refuses settings that it does not know
	obeys()
	main()
}

// A process is a provider in a process of its own. As a house it stands in a story like
// any other, behind a proxy that ends TLS.
type process struct {
	*house
	admin string // base address of its admin listener
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended
}

// startProcesses starts serve n times at once, over the world's database and under its
// keys, with further settings perhaps.
func (w *world) startProcesses(n int, settings ...string) []*process {
	w.t.Helper()
	out := make([]*process, n)
	var all sync.WaitGroup
	for i := range out {
		out[i] = w.spawn(settings...)
		all.Go(out[i].serves(w))
	}
	all.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
	return out
}

func (w *world) spawn(settings ...string) *process {
	w.t.Helper()
	keys := filepath.Join(w.t.TempDir(), "keys.txt")
	must(1, os.WriteFile(keys, theKeys(), 0o600))(w.t)
	public, admin := "127.0.0.1:"+freePort(), "127.0.0.1:"+freePort()
	p := &process{admin: "http://" + admin, cmd: exec.Command(must(os.Executable())(w.t), "serve"), done: make(chan struct{})}
	p.cmd.Env = append([]string{
		asProgram + "=1", "GOCOVERDIR=" + os.Getenv("GOCOVERDIR"),
		"HARMONY_ID_ISSUER=" + issuer, "HARMONY_ID_HTTP_ADDR=" + public, "HARMONY_ID_TRUSTED_PROXIES=127.0.0.1", "HARMONY_ID_ADMIN_ADDR=" + admin,
		"HARMONY_ID_DRAIN_DELAY=0s", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + keys, "HARMONY_ID_DATABASE_URL=" + w.url,
		"HARMONY_ID_SMTP_URL=smtp://127.0.0.1:1", "HARMONY_ID_MAIL_FROM=no-reply@example.com", // nobody listens there: mail waits
	}, settings...)
	p.cmd.Stderr = w.log
	must(1, p.cmd.Start())(w.t)
	go func() {
		_ = p.cmd.Wait() // how it ended is for those who ended it
		close(p.done)
	}()
	w.t.Cleanup(func() { p.stop(w.t) })
	to := &url.URL{Scheme: "http", Host: public}
	p.house = &house{handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			host, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.Header.Set("X-Forwarded-For", host)
		},
	}}
	return p
}

// serves waits until it is ready.
func (p *process) serves(w *world) func() {
	return func() {
		for deadline := time.Now().Add(time.Minute); ; {
			if status, _ := p.ready(); status == http.StatusOK {
				return
			}
			select {
			case <-p.done:
				w.t.Errorf("serve ended: %s", p.cmd.ProcessState)
				return
			case <-time.After(5 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				w.t.Error("serve does not get ready")
				return
			}
		}
	}
}

// ready asks readyz; 0 while nobody answers.
func (p *process) ready() (status int, body string) { return p.ask(pathReady) }

func (p *process) ask(path string) (status int, body string) {
	res, err := http.Get(p.admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, b.String()
}

// stop has it finish, as an operator does.
func (p *process) stop(t testing.TB) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
	select {
	case <-p.done:
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Error("serve does not stop")
	}
}

// OP-11, ST-07: two processes that start together on an SQLite file that is not there
// yet make one schema and one set of keys.
func TestOP11_TwoProcessesStartTogether(t *testing.T) {
	w := &world{t: t, url: dbtest.Empty(t, "sqlite"), ring: theRing(), log: &lockedBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("their log:\n%s", w.log)
		}
	})
	both := w.startProcesses(2)
	first := w.browserAt(both[0].house, "192.0.2.1").once(http.MethodGet, "/jwks", nil, nil)
	if second := w.browserAt(both[1].house, "192.0.2.1").once(http.MethodGet, "/jwks", nil, nil); second.body != first.body || strings.Count(first.body, `"kid"`) != 3 {
		t.Errorf("their keys:\n%s\n%s", first.body, second.body)
	}
	if strings.Contains(w.log.String(), "ERROR") {
		t.Errorf("they stumbled:\n%s", w.log)
	}
}

// OP-11: with two processes on one SQLite file, what may be done once is done once,
// whichever of them is asked, and nobody is told that the file is locked.
func TestOP11_TwoProcessesOnOneFile(t *testing.T) {
	w := wellBehaved(t, "sqlite")
	w.weaken(w.bob.ID, bobPassword)
	w.weaken(w.ada.ID, adaPassword)
	app := w.twoFactorNow()
	w.mails()
	link := strings.TrimPrefix(w.link(), issuer)
	both := w.startProcesses(2)
	pick := func(i int) *house { return both[i%2].house }
	w.house = pick(0)

	// once races the browsers and wants one of them let in.
	once := func(what string, attempt func(b *browser) *page) {
		t.Helper()
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].half(adaEmail, adaPassword)
		}
		w.exec(`DELETE FROM throttles`)
		var in atomic.Int64
		release(func(i int) {
			if attempt(bs[i]).status == http.StatusSeeOther && bs[i].signedIn() {
				in.Add(1)
			}
		})
		if in.Load() != 1 {
			t.Errorf("%s let %d in", what, in.Load())
		}
		w.exec(`DELETE FROM throttles`)
	}
	code := app.code()
	once("one code", func(b *browser) *page {
		return b.once(http.MethodPost, "/login/verify", url.Values{"code": {code}}, nil)
	})
	once("one backup code", func(b *browser) *page {
		return b.once(http.MethodPost, "/login/backup-code", url.Values{"backup_code": {app.codes[0]}}, nil)
	})

	var in [racers]*browser
	release(func(i int) {
		in[i] = w.browserAt(pick(i), fmt.Sprintf("198.51.100.%d", i))
		if p := in[i].attempt(bobEmail, bobPassword); p.status != http.StatusSeeOther {
			t.Errorf("a sign-in: %d", p.status)
		}
	})
	var flows [racers]*flow
	var codes [racers]string
	for i, b := range in {
		flows[i], codes[i] = b.at(pick(i + 1)).again(w.globex) // what one process began the other goes on with
	}
	var won atomic.Int64
	release(func(i int) {
		if w.globex.postAt(pick(i), flows[0].redemption(codes[0]), nil).status == http.StatusOK {
			won.Add(1)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d redeemed one code", won.Load())
	}
	var got [racers]*tokens
	release(func(i int) {
		if i > 0 {
			got[i] = w.globex.postAt(pick(i), flows[i].redemption(codes[i]), nil).ok()
		}
	})
	var next [racers]string
	release(func(i int) {
		next[i] = w.globex.postAt(pick(i), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got[1].RefreshToken}}, nil).ok().RefreshToken
	})
	for _, token := range next {
		if token != next[0] || token == got[1].RefreshToken {
			t.Error("one refresh token has several successors, or none")
		}
	}

	var resets [racers]*browser
	for i := range resets {
		resets[i] = w.browserAt(pick(i), fmt.Sprintf("203.0.113.%d", i))
		resets[i].get(link).want(http.StatusOK, "/login/reset")
	}
	won.Store(0)
	release(func(i int) {
		password := fmt.Sprintf("%s %d", newPassword, i)
		if p := resets[i].once(http.MethodPost, "/login/reset", url.Values{"new_password": {password}, "confirm_password": {password}}, nil); p.status == http.StatusSeeOther && strings.HasPrefix(p.header.Get("Location"), "/login") {
			won.Add(1)
		}
	})
	if n := w.count(`events WHERE kind = 'password_reset'`); won.Load() != 1 || n != 1 {
		t.Errorf("%d set a password with one link, %d times it was set", won.Load(), n)
	}
	if log := w.log.String(); strings.Contains(log, "locked") || strings.Contains(log, `"level":"ERROR"`) {
		t.Error("the file was locked for somebody, or something else failed")
	}
}

// A process has little room while it may not write beyond this size of any file, as if
// the disk were full. It begins and ends to be so when it is told to.
const littleRoom = 1 << 20

const (
	sigFull = syscall.SIGUSR1
	sigFree = syscall.SIGUSR2
)

// obeys has a process do as the signals say.
func obeys() {
	var was syscall.Rlimit
	must(1, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))(nopTB{})
	told := make(chan os.Signal, 1)
	signal.Notify(told, sigFull, sigFree)
	go func() {
		for s := range told {
			limit := was
			if s == sigFull {
				limit.Cur = littleRoom
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
				fmt.Fprintln(os.Stderr, "the size of files:", err)
			}
		}
	}()
}

// ST-10: a disk that is full under SQLite. What cannot be written is refused and has not
// happened, what only reads goes on, the log says why; once there is room all goes on by
// itself, and nothing that was confirmed is gone, after a KILL as well.
func TestST10_FullDisk(t *testing.T) {
	w := wellBehaved(t, "sqlite")
	w.weaken(w.ada.ID, adaPassword)
	job := w.register(machine("opaque"))
	b, f, code := w.granted(w.globex)
	k := b.connect(w.globex, adaEmail, adaPassword)
	p := w.startProcesses(1)[0]
	w.house = p.house

	given := 0
	// fill has it write until it cannot any more.
	fill := func() {
		t.Helper()
		var busy, pages, moved int // what was written before takes none of the room
		if err := w.db.QueryRow(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved); err != nil || busy != 0 {
			t.Fatalf("checkpoint: %d, %v", busy, err)
		}
		must(1, p.cmd.Process.Signal(sigFull))(t)
		for range 20000 {
			r := job.post(url.Values{"grant_type": {"client_credentials"}})
			if r.status == http.StatusOK {
				given++
				continue
			}
			r.refused(http.StatusServiceUnavailable, "server_error")
			if r.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			return
		}
		t.Fatal("it never gets full")
	}
	// all checks that everything that was confirmed is there, and nothing else.
	all := func() {
		t.Helper()
		if n := w.count(`grants WHERE client_id = $1`, job.id); n != given {
			t.Errorf("%d tokens were given, %d are known", given, n)
		}
		if said := column(t, w, `PRAGMA integrity_check`); len(said) != 1 || said[0] != "ok" {
			t.Errorf("the file is damaged: %q", said)
		}
	}
	fill()
	w.newBrowser().get("/jwks").want(http.StatusOK, "/jwks")
	if w.userinfo(k.AccessToken) == nil {
		t.Error("a token that is good opens nothing")
	}
	if status, _ := p.ask(pathHealth); status != http.StatusOK {
		t.Errorf("healthz says %d: it would be restarted, which helps nobody", status)
	}
	if !strings.Contains(w.log.String(), "disk I/O error") {
		t.Error("the log does not say why")
	}
	all()

	must(1, p.cmd.Process.Signal(sigFree))(t)
	p.serves(w)() // once it is ready again
	f.redeem(code).ok()
	w.globex.refresh(k.RefreshToken).ok()
	w.newBrowser().signIn(adaEmail, adaPassword)
	if !b.signedIn() {
		t.Error("signed out by a full disk")
	}
	all()

	fill()
	must(1, p.cmd.Process.Kill())(t)
	<-p.done
	all()
	p = w.startProcesses(1)[0]
	w.house = p.house
	all()
	w.newBrowser().signIn(adaEmail, adaPassword)
}
