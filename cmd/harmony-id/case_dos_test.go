package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// The security cases of those who send slowly, send much, or send often (DOS).

// A wire is a listener whose connections are pipes: their time is the bubble's.
type wire struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newWire() *wire { return &wire{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *wire) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *wire) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// A strand is the server's end of a connection, with an address.
type strand struct {
	net.Conn
	from net.Addr
}

func (s strand) RemoteAddr() net.Addr { return s.from }

// dial connects from an address.
func (l *wire) dial(from string) net.Conn {
	here, there := net.Pipe()
	l.conns <- strand{there, &net.TCPAddr{IP: net.ParseIP(from), Port: 4711}}
	return here
}

// listening serves the world's provider as serve does, over a wire.
func (w *world) listening(t *testing.T) *wire {
	t.Helper()
	l := newWire()
	server := newServer(w.house.handler, quietLog)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) }) // it ends with Close
	t.Cleanup(func() {
		server.Close()
		l.Close()
		served.Wait()
		time.Sleep(time.Second) // for the connections that it lets go
	})
	return l
}

// send writes one request and reads the answer's status.
func send(t *testing.T, conn net.Conn, text string) int {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

func loginRequest(email, password string) string {
	body := url.Values{"email": {email}, "password": {password}}.Encode()
	return fmt.Sprintf("POST /login HTTP/1.1\r\nHost: id.test\r\nOrigin: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", issuer, len(body), body)
}

// over waits until the server has closed a connection, and returns when.
func over(conn net.Conn) (at time.Time) {
	_, _ = io.Copy(io.Discard, conn)
	return time.Now()
}

// DOS-02: two thousand who send a byte of a header now and then keep nobody else from
// signing in, and are cut off by the header's time.
func TestDOS02_SlowHeaders(t *testing.T) {
	oneAlone(t, func(t *testing.T, w *world) {
		l := w.listening(t)
		const many = 2000
		began := time.Now()
		var held sync.WaitGroup
		var late atomic.Int64
		for i := range many {
			conn := l.dial(fmt.Sprintf("198.51.%d.%d", i/250, i%250+1))
			held.Go(func() {
				defer conn.Close()
				var trickle sync.WaitGroup
				trickle.Go(func() {
					for _, c := range "GET /login HTTP/1.1\r\nHost: id.test\r\nX-A: " + strings.Repeat("a", 100) {
						if _, err := io.WriteString(conn, string(c)); err != nil {
							return
						}
						time.Sleep(5 * time.Second)
					}
				})
				if over(conn).Sub(began) > readHeaderTimeout {
					late.Add(1)
				}
				conn.Close()
				trickle.Wait()
			})
		}
		time.Sleep(7 * time.Second)
		conn := l.dial("192.0.2.10")
		if status := send(t, conn, loginRequest(bobEmail, bobPassword)); status != http.StatusSeeOther {
			t.Errorf("signing in meanwhile: %d", status)
		}
		conn.Close()
		if waited := time.Since(began); waited != 7*time.Second {
			t.Errorf("signing in waited for them: %s", waited-7*time.Second)
		}
		held.Wait()
		if n := late.Load(); n > 0 {
			t.Errorf("%d of %d hold on for longer than %s", n, many, readHeaderTimeout)
		}
	})
}

// DOS-04: who sends a body byte by byte, or never reads the answer, is cut off within
// half a minute; so is who says nothing more after an answer, in time.
func TestDOS04_SlowBodies(t *testing.T) {
	oneAlone(t, func(t *testing.T, w *world) {
		l := w.listening(t)
		const most = 30 * time.Second
		began := time.Now()
		slow := l.dial("198.51.100.1")
		go func() {
			_, _ = fmt.Fprintf(slow, "POST /login HTTP/1.1\r\nHost: id.test\r\nOrigin: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n", issuer)
			for {
				if _, err := io.WriteString(slow, "a"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if held := over(slow).Sub(began); held > most {
			t.Errorf("a slow body holds a connection for %s", held)
		}
		slow.Close()

		// Nothing of the answer is read. The pipe's other end is closed by the server
		// alone, which a write tells.
		began = time.Now()
		deaf := l.dial("198.51.100.2")
		if _, err := io.WriteString(deaf, "GET /login HTTP/1.1\r\nHost: id.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for {
			time.Sleep(time.Second)
			if err := deaf.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
				break // a pipe that is closed has none
			}
			if _, err := io.WriteString(deaf, "x"); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if time.Since(began) > 2*most {
				t.Fatal("an answer that is not read holds a connection without end")
			}
		}
		if held := time.Since(began); held > most+2*time.Second {
			t.Errorf("an answer that is not read holds a connection for %s", held)
		}
		deaf.Close()

		began = time.Now()
		idle := l.dial("198.51.100.3")
		if _, err := io.WriteString(idle, "GET /jwks HTTP/1.1\r\nHost: id.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if held := over(idle).Sub(began); held > idleTimeout {
			t.Errorf("an idle connection is held for %s", held)
		}
		idle.Close()
	})
}

// The rest of DOS-03: more header than 16 KiB, in one line or in many, is refused.
func TestDOS03_HeaderBytes(t *testing.T) {
	oneAlone(t, func(t *testing.T, w *world) {
		l := w.listening(t)
		for name, header := range map[string]string{
			"1 MiB in one":       "X-A: " + strings.Repeat("a", 1<<20) + "\r\n",
			"10,000 headers":     strings.Repeat("X-A: aaaaaaaaaa\r\n", 10_000),
			"1,000 cookies":      "Cookie: " + strings.Repeat("name=aaaaaaaaaaaaaaaaaaaa; ", 1_000) + "\r\n",
			"1 MiB without a :":  strings.Repeat("a", 1<<20) + "\r\n",
			"1 MiB of a request": "",
		} {
			conn := l.dial("198.51.100.1")
			path := "/login"
			if header == "" {
				path += "?" + strings.Repeat("a", 1<<20)
			}
			go func() { _, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: id.test\r\n"+header+"\r\n") }() // it is cut off
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge && res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %+v, %v", name, res, err)
			}
			if err == nil {
				res.Body.Close()
			}
			conn.Close()
		}
	})
}

// DOS-06: whoever begins sign-ins without end leaves a bounded number of rows, which
// house-keeping takes away, and holds up nobody else.
func TestDOS06_RequestsWithoutEnd(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		target := w.acme.begin().url()
		begin := func(address string) int {
			r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, issuer+target, nil))(t)
			res := must(network{w.house, address}.RoundTrip(r))(t)
			res.Body.Close()
			if wait := res.Header.Get("Retry-After"); (wait != "") != (res.StatusCode == http.StatusTooManyRequests) {
				t.Fatalf("%d, Retry-After %q", res.StatusCode, wait)
			}
			return res.StatusCode
		}
		const limit = 10_000 // idp's
		refused := 0
		for range limit + 500 {
			switch status := begin("198.51.100.1"); status {
			case http.StatusSeeOther:
			case http.StatusTooManyRequests:
				refused++
			default:
				t.Fatalf("status %d", status)
			}
		}
		if n := w.count("auth_requests"); n > limit || refused != 500 {
			t.Errorf("%d rows, %d refused; want %d rows at the most", n, refused, limit)
		}
		if status := begin("198.51.100.2"); status != http.StatusSeeOther {
			t.Errorf("another network: %d", status)
		}
		b := w.newBrowser()
		b.connect(w.acme, adaEmail, adaPassword)
		time.Sleep(31 * time.Minute)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count("auth_requests"); n != 0 {
			t.Errorf("%d rows after their time", n)
		}
		if status := begin("198.51.100.1"); status != http.StatusSeeOther {
			t.Errorf("half an hour later: %d", status)
		}
	})
}

// DOS-08: while more people sign in than can be hashed, workspaces get tokens and
// claims all the same: those wait for no hash.
func TestDOS08_TokensWhileManySignIn(t *testing.T) {
	w := wellBehaved(t, "sqlite")
	b := w.newBrowser()
	k := b.connect(w.acme, adaEmail, adaPassword)
	_, code := b.again(w.acme)
	const many = 40
	var done atomic.Int64
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			stranger := w.browserAt(w.house, fmt.Sprintf("10.1.%d.%d", i/200, i%200+1))
			if p := stranger.attempt(fmt.Sprintf("nobody%d@example.com", i), "a password that is not"); p.status != http.StatusUnprocessableEntity && p.status != http.StatusServiceUnavailable {
				t.Errorf("sign-in: %d", p.status)
			}
			done.Add(1)
		})
	}
	for done.Load() < 2 { // until they stand in each other's way
		runtime.Gosched()
	}
	for range 5 {
		w.acme.refresh(k.RefreshToken).ok()
		if w.userinfo(k.AccessToken) == nil {
			t.Error("no claims")
		}
	}
	w.acme.begin().redeem(code)
	if n := done.Load(); n >= many {
		t.Errorf("all %d sign-ins were judged before a few tokens were given", n)
	}
	all.Wait()
}

// DOS-09: encodings, trailers and expectations that nobody here has use for do no
// harm.
func TestDOS09_OddBodies(t *testing.T) {
	oneAlone(t, func(t *testing.T, w *world) {
		l := w.listening(t)
		head := "POST /login HTTP/1.1\r\nHost: id.test\r\nOrigin: " + issuer + "\r\nConnection: close\r\n"
		const form = "Content-Type: application/x-www-form-urlencoded\r\n"
		for name, c := range map[string]struct {
			request string
			status  int
		}{
			"multipart":   {head + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\n--x--", 415},
			"gzip":        {head + form + "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde", 415},
			"expectation": {head + form + "Expect: 200-ok\r\nContent-Length: 5\r\n\r\nabcde", 417},
			"trailers":    {head + form + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5\r\nemail\r\n0\r\nX-A: b\r\n\r\n", 422},
			"two lengths": {head + form + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400},
			"unknown te":  {head + form + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nemail\r\n0\r\n\r\n", 501},
		} {
			conn := l.dial("198.51.100.1")
			if status := send(t, conn, c.request); status != c.status {
				t.Errorf("%s: %d, want %d", name, status, c.status)
			}
			conn.Close()
		}
	})
}

// DOS-10: streams without end on one connection of HTTP/2, each reset at once, keep
// nobody else from being served.
func TestDOS10_RapidReset(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certify(t, certFile, keyFile, 1)
	r := sh.with("HARMONY_ID_ISSUER=https://localhost:"+port, "HARMONY_ID_TLS_CERT_FILE="+certFile, "HARMONY_ID_TLS_KEY_FILE="+keyFile).start("serve")
	defer r.end()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	conn := must(tls.Dial("tcp", "localhost:"+port, config))(t)
	defer conn.Close()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	frame := func(kind, flags byte, stream uint32, payload string) []byte {
		n := len(payload)
		return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}, payload...)
	}
	// RFC 9113: the preface, SETTINGS; then HEADERS and RST_STREAM over and over. The
	// header block (RFC 7541) is GET, https, /login and an :authority.
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, "")...)
	authority := "localhost:" + port
	block := "\x82\x87\x04\x06/login\x41" + string(rune(len(authority))) + authority
	for stream := uint32(1); stream < 40_000; stream += 2 {
		out = append(out, frame(1, 5, stream, block)...)
		out = append(out, frame(3, 0, stream, "\x00\x00\x00\x08")...)
	}
	_, _ = conn.Write(out) // the server may have had enough of it
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	if status, _ := fetch(t, client, "https://localhost:"+port+"/login"); status != http.StatusOK {
		t.Errorf("another connection gets %d", status)
	}
}
