package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A fleet is a provider as it is run: replicas over one database, and what stands in
// front of them.
type fleet struct {
	dir      string
	program  string // harmony-id
	issuer   string
	roots    *x509.CertPool
	pem      string // certificate and key, for whoever ends TLS
	environ  []string
	replicas []*replica
}

// A replica is a process of harmony-id serve, or the place of one.
type replica struct {
	name, address, admin string
	program              string
	environ              []string
	log                  string // file

	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

// ports are free ones of this machine.
func ports(n int) (all []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		all = append(all, port)
	}
	return all, nil
}

// newFleet makes two replicas of a program over a migrated or empty database. It starts
// none. drain is how long each goes on when it is told to stop.
func newFleet(dir, program, database string, drain time.Duration) (*fleet, error) {
	free, err := ports(5)
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: dir, program: program, issuer: "https://localhost:" + free[0], pem: filepath.Join(dir, "site.pem")}
	if err := f.certify(); err != nil {
		return nil, err
	}
	keys := filepath.Join(dir, "keys.txt")
	f.environ = []string{
		"HARMONY_ID_ISSUER=" + f.issuer, "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + keys, "HARMONY_ID_DATABASE_URL=" + database,
		"HARMONY_ID_TRUSTED_PROXIES=127.0.0.1", "HARMONY_ID_DRAIN_DELAY=" + drain.String(),
		"HARMONY_ID_SMTP_URL=smtp://127.0.0.1:1", "HARMONY_ID_MAIL_FROM=no-reply@example.com", // nobody listens there: mail waits
	}
	text, err := f.run("", "secrets", "generate")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
		return nil, err
	}
	for i, name := range []string{"one", "two"} {
		r := &replica{name: name, address: "127.0.0.1:" + free[1+2*i], admin: "127.0.0.1:" + free[2+2*i], program: program, log: filepath.Join(dir, name+".log")}
		r.environ = append([]string{"HARMONY_ID_HTTP_ADDR=" + r.address, "HARMONY_ID_ADMIN_ADDR=" + r.admin}, f.environ...)
		f.replicas = append(f.replicas, r)
	}
	return f, nil
}

// certify makes a certificate for this machine that only the clients here trust.
func (f *fleet) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	f.roots = x509.NewCertPool()
	f.roots.AppendCertsFromPEM(certificate)
	return os.WriteFile(f.pem, append(certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), 0o600)
}

// run runs a command of the program to its end, and returns what it says.
func (f *fleet) run(stdin string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(f.program, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = f.environ, strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("harmony-id %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.String(), nil
}

// start starts a replica that does not run.
func (r *replica) start() error {
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r.cmd, r.ended = exec.Command(r.program, "serve"), make(chan struct{})
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = r.environ, io.Discard, log
	// Ctrl-C is for whoever watches over it.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		r.cmd = nil
		return err
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // the process's state says how
		close(ended)
	}(r.cmd, r.ended)
	return nil
}

// stop sends a signal and waits until the process has ended.
func (r *replica) stop(sig syscall.Signal) (*os.ProcessState, error) {
	if r.cmd == nil {
		return nil, fmt.Errorf("replica %s does not run", r.name)
	}
	_ = r.cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("replica %s (process %d) does not end", r.name, r.cmd.Process.Pid)
	}
	state := r.cmd.ProcessState
	r.cmd = nil
	return state, nil
}

// ready reports whether the replica says that it can work.
func (r *replica) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// awaitReady waits until it does.
func (r *replica) awaitReady(ctx context.Context) error {
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if r.ready(ctx) {
			return nil
		}
		select {
		case <-r.ended:
			text, _ := os.ReadFile(r.log)
			return fmt.Errorf("replica %s ended at its start\n%s", r.name, text[max(0, len(text)-2000):])
		default:
		}
	}
	return fmt.Errorf("replica %s does not get ready", r.name)
}

// startAll starts the replicas and waits for them.
func (f *fleet) startAll(ctx context.Context) error {
	for _, r := range f.replicas {
		if err := r.start(); err != nil {
			return err
		}
		if err := r.awaitReady(ctx); err != nil { // the first makes the signing keys
			return err
		}
	}
	return nil
}

// stopAll ends what runs.
func (f *fleet) stopAll() error {
	var errs []error
	for _, r := range f.replicas {
		if r.cmd != nil {
			_, err := r.stop(syscall.SIGKILL)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// slips are lines of the replicas' logs that no fault explains: a panic, or an answer
// that says that something is wrong with the program.
func (f *fleet) slips() (lines []string, err error) {
	for _, r := range f.replicas {
		text, err := os.ReadFile(r.log)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, `"msg":"panic"`) || strings.Contains(line, `"status":500`) || strings.HasPrefix(line, "panic:") || strings.Contains(line, "DATA RACE") {
				lines = append(lines, r.name+": "+strings.TrimSpace(line))
			}
		}
	}
	return lines, nil
}

// An haproxy is a running HAProxy.
type haproxy struct {
	cmd   *exec.Cmd
	ended chan struct{}
	once  sync.Once
	log   string
}

// startHAProxy runs HAProxy with the configuration that is handed out, in which the
// addresses and the certificate alone are changed.
func (f *fleet) startHAProxy(configuration string) (*haproxy, error) {
	text, err := os.ReadFile(configuration)
	if err != nil {
		return nil, err
	}
	config := string(text)
	one, two := f.replicas[0], f.replicas[1]
	for _, change := range [][2]string{
		{"bind :443 ssl crt /etc/haproxy/id.example.com.pem", "bind 127.0.0.1:" + f.port() + " ssl crt " + f.pem},
		{"server one 10.0.0.11:8080 port 9090", "server one " + one.address + " port " + port(one.admin)},
		{"server two 10.0.0.12:8080 port 9090", "server two " + two.address + " port " + port(two.admin)},
	} {
		if !strings.Contains(config, change[0]) {
			return nil, fmt.Errorf("%s does not have %q", configuration, change[0])
		}
		config = strings.ReplaceAll(config, change[0], change[1])
	}
	file := filepath.Join(f.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy"
	}
	h := &haproxy{cmd: exec.Command(program, "-db", "-f", file), ended: make(chan struct{}), log: filepath.Join(f.dir, "haproxy.log")}
	log, err := os.Create(h.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h.cmd.Stdout, h.cmd.Stderr = log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = h.cmd.Wait()
		close(h.ended)
	}()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+f.port()); err == nil {
			return h, c.Close()
		}
		select {
		case <-h.ended:
			said, _ := os.ReadFile(h.log)
			return nil, fmt.Errorf("haproxy ended at once\n%s", said)
		default:
		}
	}
	return nil, errors.Join(errors.New("haproxy does not listen"), h.stop())
}

func (h *haproxy) stop() error {
	h.once.Do(func() { _ = h.cmd.Process.Kill() })
	<-h.ended
	return nil
}

func (f *fleet) port() string { return port(strings.TrimPrefix(f.issuer, "https://")) }

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}
