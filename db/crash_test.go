package db_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/harmony/id/db"
)

const crashing = "HARMONY_ID_TEST_CRASH"

func TestMain(m *testing.M) {
	if url := os.Getenv(crashing); url != "" {
		writeUntilKilled(url)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes rows and says on stdout which ones were answered.
func writeUntilKilled(url string) {
	d, err := db.Open(ctx, url)
	if err != nil {
		fmt.Println(err)
		return
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("row %d %d", g, i)
				ctx := ctx
				if g%4 == 0 {
					ctx = db.Soft(ctx)
				}
				var err error
				if g%2 == 0 {
					_, err = d.Exec(ctx, insert, id, id, "x", 1)
				} else {
					err = d.Tx(ctx, func(tx *db.Tx) error {
						if _, err := tx.Exec(ctx, insert, id, id, "x", 1); err != nil {
							return err
						}
						_, err := tx.Exec(ctx, `INSERT INTO parts VALUES ($1, 'wheel')`, id)
						return err
					})
				}
				if err != nil {
					fmt.Println(err)
					return
				}
				fmt.Println(id)
			}
		})
	}
	wg.Wait()
}

func TestCrash(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/crash.db"
	d := withThings(t, connect(t, url))
	answered := map[string]bool{}
	for round := range 3 {
		must(t, d, `DELETE FROM things`)
		clear(answered)
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashing+"="+url)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if !strings.HasPrefix(lines.Text(), "row ") {
				t.Error(lines.Text())
			}
			answered[lines.Text()] = true
			if len(answered) == 300+200*round {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil || child.ProcessState.ExitCode() != -1 {
			t.Fatalf("the child was not killed: %v", err)
		}
		for id := range answered {
			if count(t, d, `SELECT count(*) FROM things WHERE id = $1`, id) != 1 {
				t.Errorf("%q was answered and is not there", id)
			}
		}
		odd := `SELECT count(*) FROM things WHERE substr(id, 5, 1) IN ('1', '3', '5', '7')`
		if things, parts := count(t, d, odd), count(t, d, `SELECT count(*) FROM parts`); things != parts {
			t.Errorf("%d things with %d parts: a transaction was torn", things, parts)
		}
	}
}
