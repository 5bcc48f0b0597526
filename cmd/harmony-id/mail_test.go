package main

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// mailServer is a mail server on this machine that takes one connection and
// answers as told, else that it is fine. It returns its address and what was said to
// it, to read once the command has ended.
func mailServer(t *testing.T, answers map[string]string) (address string, heard <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan string, 1)
	go func() {
		var text strings.Builder
		defer func() { all <- text.String() }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "220 mail.test ESMTP\r\n")
		inMail, inAuth := false, false
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			line := lines.Text()
			text.WriteString(line + "\n")
			if inMail && line != "." {
				continue
			}
			inMail = false
			verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
			answer, ok := answers[verb]
			switch {
			case ok:
			case inAuth:
				answer, inAuth = "235 2.7.0 welcome", false
			case verb == "EHLO":
				answer = "250-mail.test\r\n250-AUTH CRAM-MD5\r\n250 8BITMIME"
			case verb == "AUTH":
				answer, inAuth = "334 PG1haWxAdGVzdD4=", true
			case verb == "DATA":
				answer, inMail = "354 go on", true
			case verb == "QUIT":
				answer = "221 2.0.0 bye"
			default:
				answer = "250 2.0.0 fine"
			}
			fmt.Fprint(conn, answer+"\r\n")
		}
	}()
	return l.Addr().String(), all
}

func TestMailTest(t *testing.T) {
	sh := shell{t, []string{"HARMONY_ID_MAIL_FROM=Acme Sign-in <no-reply@example.com>"}}
	server, heard := mailServer(t, nil)
	m := sh.with("HARMONY_ID_SMTP_URL=smtp://"+server).run("", "mail", "test", "--to", "Ada@example.com", "-o", "json").want(0).object(mailTestResult{})
	if m["server"] != server || m["to"] != "ada@example.com" || !strings.Contains(fmt.Sprint(m["from"]), "no-reply@example.com") || m["subject"] == "" {
		t.Errorf("result = %v", m)
	}
	if mail := <-heard; !strings.Contains(mail, "RCPT TO:<ada@example.com>") || !strings.Contains(mail, "From: \"Acme Sign-in\" <no-reply@example.com>") {
		t.Errorf("the server heard\n%s", mail)
	}
	server, _ = mailServer(t, nil)
	sh.with("HARMONY_ID_SMTP_URL=smtp://"+server).run("", "mail", "test", "--to", "ada@example.com").want(0, "took it", server, "ada@example.com")
}

// What went wrong is said in the server's words, and never with the password.
func TestMailTestRefusals(t *testing.T) {
	sh := shell{t, []string{"HARMONY_ID_MAIL_FROM=no-reply@example.com"}}
	send := func(sh shell, args ...string) ran {
		t.Helper()
		r := sh.run("", append([]string{"mail", "test", "--to", "ada@example.com"}, args...)...)
		if strings.Contains(r.stdout+r.stderr, "hunter2") {
			t.Errorf("the password is shown: %s%s", r.stdout, r.stderr)
		}
		return r
	}
	server, _ := mailServer(t, map[string]string{"RCPT": "550 5.1.1 ada is not here"})
	send(sh.with("HARMONY_ID_SMTP_URL=smtp://"+server)).want(exitFailed, server, "ada is not here")
	server, _ = mailServer(t, map[string]string{"AUTH": "535 5.7.8 who are you"})
	send(sh.with("HARMONY_ID_SMTP_URL=smtp://ada:hunter2@"+server)).want(exitFailed, server, "who are you")
	server, _ = mailServer(t, map[string]string{"AUTH": "535 5.7.8 hunter2 is wrong"})
	send(sh.with("HARMONY_ID_SMTP_URL=smtp://ada:hunter2@"+server)).want(exitFailed, server)
	send(sh.with("HARMONY_ID_SMTP_URL=smtp://ada:hunter2@127.0.0.1:1")).want(exitFailed, "127.0.0.1:1", "refused")

	send(sh).want(exitUsage, "HARMONY_ID_SMTP_URL=smtps://USER:PASSWORD@HOST", "HARMONY_ID_SMTP_URL_FILE")
	sh = sh.with("HARMONY_ID_SMTP_URL=smtp://127.0.0.1:1")
	sh.run("", "mail", "test").want(exitUsage, "--to")
	sh.run("", "mail", "test", "--to", "ada").want(exitUsage, "--to", "ada@example.com")
	sh.run("", "mail", "test", "--to", "ada@example.com, bob@example.com").want(exitUsage, "--to")
	send(sh.with("HARMONY_ID_MAIL_FROM=")).want(exitUsage, "HARMONY_ID_MAIL_FROM=no-reply@example.com")
	send(sh.with("HARMONY_ID_MAIL_FROM=nobody")).want(exitUsage, "HARMONY_ID_MAIL_FROM:", "no-reply@example.com")
}

// The mail server's URL may come from a file, and a password in it never from the
// command line.
func TestSMTPURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	server, heard := mailServer(t, nil)
	write(t, file, "smtp://ada:hunter2@"+server+"\n")
	sh := shell{t, []string{"HARMONY_ID_MAIL_FROM=no-reply@example.com"}}
	test := []string{"mail", "test", "--to", "ada@example.com"}
	sh.with("HARMONY_ID_SMTP_URL_FILE="+file).run("", test...).want(0, server)
	if said := <-heard; !strings.Contains(said, "AUTH CRAM-MD5") {
		t.Errorf("the server heard\n%s", said)
	}
	sh.with("HARMONY_ID_SMTP_URL_FILE="+file, "HARMONY_ID_SMTP_URL=smtp://mail.test").run("", test...).want(exitUsage, "are both set")
	r := sh.run("", append(test, "--smtp-url", "smtps://ada:hunter2@mail.test")...).want(exitUsage, "--smtp-url holds a password", "HARMONY_ID_SMTP_URL")
	if strings.Contains(r.stderr, "hunter2") {
		t.Errorf("the password is shown: %s", r.stderr)
	}
	for _, bad := range []string{"mail.test", "http://mail.test", "smtps://mail.test/inbox", "smtps://ada@mail.test"} {
		sh.with("HARMONY_ID_SMTP_URL="+bad).run("", test...).want(exitUsage, "HARMONY_ID_SMTP_URL:", "URL")
	}
}
